"""One trial: its work, times, costs and phases, what its GPU did, its verdicts, and the row that holds all of them."""
