"""The kinds of figure that a page shows, with the titles of their sections. Nothing is drawn here."""

from typing import Literal

FigureKind = Literal["energy", "time", "front", "quality", "power", "inputs"]

FIGURE_TITLES: dict[FigureKind, str] = {
    "energy": "Energy per token against the clock",
    "time": "Time against the clock",
    "front": "Pareto front",
    "quality": "Quality against energy",
    "power": "Power over time",
    "inputs": "What an input costs",
}
"""In the order in which they stand on the page."""
