"""The clock lease: its journal, its guard, and what is put back after a crash."""
