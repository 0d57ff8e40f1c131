"""What the readings mean: energy, verdicts and summaries, as pure functions on frames."""
