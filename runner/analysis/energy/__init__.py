"""Energy of a window: by the power trace, by the counter, and handed out to its requests."""
