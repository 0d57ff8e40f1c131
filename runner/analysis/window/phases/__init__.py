"""Prefill and decode of one window: by static batches, by a window of one phase, and by regression."""
