"""What is kept: the schemas of every table and the run directory that holds them."""
