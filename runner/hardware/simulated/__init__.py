"""A stand-in for the `pynvml` module, with simulated GPUs that the GPU model computes."""
