"""All trials of a run: what only several of them tell, their means and their intervals."""
