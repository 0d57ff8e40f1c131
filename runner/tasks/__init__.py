"""The work: harness tasks and synthetic lengths become requests; completions become scores."""
