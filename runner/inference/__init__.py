"""The engines: real vLLM, the same paced by a simulated GPU, and the GPU model alone in virtual time."""
