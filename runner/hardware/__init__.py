"""The GPUs: read their power and clocks, set their clocks, and put everything back."""
