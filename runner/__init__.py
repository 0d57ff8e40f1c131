"""Joulesweep: what a token costs in joules, seconds and quality, at every clock the GPU can run."""

__version__ = "0.1.0"
