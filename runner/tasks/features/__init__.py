"""Features of prompts, from their text and from their tokens."""
