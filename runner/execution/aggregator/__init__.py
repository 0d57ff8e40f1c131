"""The aggregator: it analyses, scores and writes trials, and keeps the live view."""
