"""All trials of a run: what takes several of them to see, their means and their intervals."""
