"""The lease on a GPU's clocks: its journal, its guard, and what is owed after a crash."""
