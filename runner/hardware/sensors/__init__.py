"""A GPU's power and energy sensors: watched, probed and sampled."""
