"""A GPU behind NVML."""
