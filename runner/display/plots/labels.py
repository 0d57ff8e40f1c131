"""Places the labels of a plot's points beside their points, so that none overlaps another or leaves the plot.

Points and their labels enter; `Label`s leave. Vega-Lite itself would draw labels over each other.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.display.plots.axes import domain_of, spans_widely

FONT_SIZE = 11
_LETTER_WIDTH = 6.4
"""Pixels; a digit of system fonts at FONT_SIZE, rounded up."""
_PLACES = (("left", 8, -7), ("left", 8, 8), ("right", -8, -7), ("right", -8, 8), ("center", 0, -14), ("center", 0, 14))
"""Alignment of the text, and pixels from the point to the right and down, in the order in which they are tried."""
_RADIUS = 5.0
"""Pixels around a point that a label leaves free."""

_Place = tuple[float, float]
_Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """Where the label of a point stands, as Vega describes it."""

    align: str
    dx: int
    dy: int


def place_labels(
    texts: Sequence[str], points: Sequence[tuple[float, float]], *, width: float, height: float, padding: float
) -> list[Label | None]:
    """Find a place for the label of each of the first points.

    Args:
        texts: [num_labels] of the first points, the most important ones first.
        points: [num_points] of a plot whose scales are `scale_for` of them, not nice.
        width, height, padding: of the plot, in pixels.
    Returns: [num_labels]; None where every place is taken.
    """
    if not points:
        return []
    across = _to_pixels([x for x, _ in points], width, padding)
    down = [height - y for y in _to_pixels([y for _, y in points], height, padding)]
    places = list(zip(across, down, strict=True))
    taken: list[_Box] = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in places]
    labels: list[Label | None] = []
    for text, place in zip(texts, places, strict=False):
        free = (
            (label, box)
            for label, box in _candidates(text, place)
            if box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            and not any(_overlap(box, other) for other in taken)
        )  # fmt: skip
        label, box = next(free, (None, None))
        labels.append(label)
        taken += [box] if box else []
    return labels


def _to_pixels(values: Sequence[float], length: float, padding: float) -> list[float]:
    """Return where values lie on an axis, in pixels from its start."""
    scale = math.log if spans_widely(values) else float
    least, greatest = map(scale, domain_of(values))
    return [padding + (scale(value) - least) / (greatest - least) * (length - 2 * padding) for value in values]


def _candidates(text: str, point: _Place) -> Iterator[tuple[Label, _Box]]:
    width = _LETTER_WIDTH * len(text)
    for align, dx, dy in _PLACES:
        left = point[0] + dx - {"left": 0.0, "center": width / 2, "right": width}[align]
        top = point[1] + dy - FONT_SIZE / 2
        yield Label(align=align, dx=dx, dy=dy), (left, top, left + width, top + FONT_SIZE)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
