"""The columns of the table of correlations between features of prompts and what the prompts cost.

Rows of `correlation.CORRELATIONS` enter; `Column`s leave. Next: `build.py`.
"""

import polars as pl

from runner.display.report.document import Column
from runner.display.text.correlations import TARGET_NAMES, choose_strongest
from runner.display.text.quantities import MINUS


def correlation_columns(correlations: pl.DataFrame) -> list[Column]:
    """Return the table of the strongest correlations that hold; no column where none does."""
    rows, _ = choose_strongest(correlations)
    if rows.is_empty():
        return []
    intervals = rows.select("partial_low", "partial_high").rows()
    return [
        Column("", "", tuple(TARGET_NAMES[target] for target in rows["target"]), 0, alignment="left"),
        Column("feature", "feature", tuple(rows["feature"]), 0, alignment="left"),
        Column("partial", "partial correlation", tuple(map(_signed, rows["partial"])), 0),
        Column("95 %", "interval", tuple(f"{_signed(low)} to {_signed(high)}" for low, high in intervals), 2),
        Column("q", "q-value", tuple("<0.001" if q < 0.001 else f"{q:.3f}" for q in rows["partial_q_value"]), 1),
        Column("prompts", "number of prompts", tuple(f"{number:,}" for number in rows["num_prompts"]), 3),
    ]


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}".replace("-", MINUS)
