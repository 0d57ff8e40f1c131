"""Our own small tasks, with their data."""
