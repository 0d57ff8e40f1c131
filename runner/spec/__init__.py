"""The sweep file, the trials that it expands to, and the requests of a trial."""
