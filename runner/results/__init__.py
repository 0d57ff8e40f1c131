"""Results: the schemas of every table, the run directory that holds them, and the live view."""
