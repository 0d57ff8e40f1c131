"""One trial: its phases, what its GPU did, its verdicts, and the row that all of this makes."""
