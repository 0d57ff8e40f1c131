"""Real vLLM: the engine, its request loop and its processes."""
