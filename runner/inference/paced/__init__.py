"""Real vLLM on the CPU, paced by a simulated GPU."""
