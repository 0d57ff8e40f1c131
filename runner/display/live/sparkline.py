"""A series of numbers as a small bar chart of block elements."""

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"


def draw_bars(values: Sequence[float | None], *, top: float, num_rows: int = 1) -> list[str]:
    """Draw one column for each value, from 0 to `top`, in eighths of a row.

    A known value shows at least one eighth, so that an idle GPU looks different from an unknown one.

    Args:
        values: one for each column; None leaves the column empty.
        top: value that fills the whole height, > 0; larger values are drawn as `top`.
    Returns: [num_rows] strings of len(values) characters, top row first.
    """
    eighths = [0 if v is None else max(round(min(v / top, 1.0) * 8 * num_rows), 1) for v in values]
    return [
        "".join(_BLOCKS[min(max(height - 8 * row, 0), 8)] for height in eighths) for row in reversed(range(num_rows))
    ]


def resample(values: Sequence[float], num_columns: int, *, capacity: int) -> list[float | None]:
    """Spread the last `capacity` values over `num_columns` by weighted means, the newest at the right.

    Args:
        values: oldest first; with fewer than `capacity` values the left part is unknown.
    Returns: [num_columns] means, None where no value lies.
    """
    recent = values[-capacity:]
    width = capacity / num_columns
    missing = capacity - len(recent)
    return [_mean_between(recent, i * width - missing, (i + 1) * width - missing) for i in range(num_columns)]


def _mean_between(values: Sequence[float], start: float, end: float) -> float | None:
    """Return the mean over [start, end), where value i holds from i to i + 1; None where there is no value."""
    total = weight = 0.0
    for i in range(max(int(start), 0), min(int(end) + 1, len(values))):
        share = min(end, i + 1.0) - max(start, float(i))
        if share > 1e-9:
            total += share * values[i]
            weight += share
    return total / weight if weight > 0 else None
