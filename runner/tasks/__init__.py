"""Tasks: their prompts become requests, and completions become scores."""
