"""Real vLLM on the CPU, paced by a simulated GPU. Two of these modules are loaded in the engine's own process."""
