"""Features of prompts: of their text and of their tokens."""
