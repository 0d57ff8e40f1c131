"""Analysis of what was measured, as pure functions: energy, verdicts, means over trials, and recommendations."""
