"""The GPU model: time and power of an engine's step from its work, the clocks and the power limit."""
