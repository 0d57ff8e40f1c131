"""The dashboard of a run, and the same as lines of text."""
