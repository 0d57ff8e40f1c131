"""`python -m runner`: the command `sweep`."""

from runner.cli import main

main()
