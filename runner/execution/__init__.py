"""Carrying out a sweep: one driver, one aggregator, and one worker for each GPU group."""
