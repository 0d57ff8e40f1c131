"""What is asked for: the sweep file, the trials it expands to, and the requests a trial is made of."""
