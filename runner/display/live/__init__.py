"""The live view of a run: the dashboard, and lines of text where there is no terminal."""
