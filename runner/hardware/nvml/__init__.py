"""A real GPU, through NVML."""
