"""The columns of the table of recommendations: what to set for each block, and what that saves and costs.

Rows of `recommendation.RECOMMENDATIONS` enter; `Column`s leave. Next: `build.py`.
"""

from collections.abc import Callable, Sequence

import polars as pl

from runner.display.report.document import Column, Mark, Role
from runner.display.text.advice import describe_evidence, describe_outputs
from runner.display.text.findings import describe_quality
from runner.display.text.names import Row, load_heading, short_load, short_names, short_point
from runner.display.text.quantities import UNKNOWN, format_change, format_change_interval
from runner.spec.load import read_load

_MARKS: dict[str, Mark] = {"saves": "good", "unproven": "doubt"}


def recommendation_columns(recommendations: pl.DataFrame) -> list[Column]:
    """Return the columns, a row for each block; a column in which nothing is known is left out."""
    energy, product = (recommendations.filter(goal=goal).to_dicts() for goal in ("energy", "energy_delay_product"))
    names = short_names(recommendations["model"].unique().to_list())
    columns = [
        _column("task", energy, lambda row: str(row["task"]), "name"),
        _column("model", energy, lambda row: names[row["model"]], "name"),
        _column(load_heading(map(read_load, energy)), energy, lambda row: short_load(read_load(row))),
        _column("set", energy, _known(short_point), "conclusion"),
        _column("energy", energy, _known(_energy), "conclusion"),
        _column("time", energy, _known(_time)),
        _column("quality", energy, _known(_quality)),
        _column("outputs", energy, _known(lambda row: describe_outputs(row) or UNKNOWN)),
        _column("energy-delay", product, _known(short_point)),
        _column("evidence", energy, describe_evidence, "conclusion"),
    ]
    return [column for column in columns if set(column.cells) != {UNKNOWN}]


def mark_recommendations(recommendations: pl.DataFrame) -> list[Mark]:
    """Return the mark of each row: whether its saving is shown, or in doubt."""
    return [_MARKS.get(conclusion, "") for conclusion in recommendations.filter(goal="energy")["conclusion"]]


def _column(header: str, rows: Sequence[Row], cell: Callable[[Row], str], role: Role = "value") -> Column:
    return Column(header, header, tuple(cell(row) for row in rows), 0, alignment="left", role=role)


def _known(cell: Callable[[Row], str]) -> Callable[[Row], str]:
    """Write an en dash for rows without a recommendation."""
    return lambda row: UNKNOWN if row["conclusion"] == "none" else cell(row)


def _energy(row: Row) -> str:
    if row["is_default"]:
        return "base"
    return f"{format_change_interval(row['change'], row['change_low'], row['change_high'])} %".replace("±", "± ")


def _time(row: Row) -> str:
    return "base" if row["is_default"] else format_change(row["slowdown"])


def _quality(row: Row) -> str:
    if row["is_default"] or row["quality_difference"] is None:
        return UNKNOWN
    return describe_quality(row).removeprefix("quality ")
