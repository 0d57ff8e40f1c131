"""The engines: real vLLM, the same paced by a simulated board, and the board model alone in virtual time."""
