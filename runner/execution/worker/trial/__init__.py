"""One trial: its procedure, its requests, its settling and its window."""
