"""A stand-in for the `pynvml` module: GPUs that a fitted model computes."""
