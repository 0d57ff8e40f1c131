"""What to do: the operating point to set, within which limits, for one load or for all."""
