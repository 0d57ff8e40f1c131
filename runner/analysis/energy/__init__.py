"""Joules of a window by its trace and by the counter, and whose they were."""
