"""The section about money and carbon: each block at what is recommended and at the default clock.

A `Study` with a tariff enters; a `Section` leaves. Next: `build.py`.
"""

from collections.abc import Callable, Sequence

import polars as pl

from runner.analysis.run.operating_points import BLOCK, POINT
from runner.analysis.study import Study
from runner.display.report.document import Column, Mark, Part, Section, Sentences, Table
from runner.display.text.costs import describe_costs
from runner.display.text.names import Row, load_heading, short_load, short_names, short_point
from runner.display.text.quantities import UNKNOWN, format_number
from runner.display.text.simulated import SIMULATED_NOTICE
from runner.spec.load import read_load

_MARKS: dict[str, Mark] = {"saves": "good", "unproven": "doubt"}
_SET, _DEFAULT = "", "@default"


def cost_section(study: Study) -> Section | None:
    """Return what tokens and good requests cost in each block; None without a tariff."""
    if study.costs.is_empty():
        return None
    rows = _pair(study).to_dicts()
    marks = tuple(_MARKS.get(row["conclusion"], "") for row in rows)
    parts: list[Part] = [Table(columns=tuple(_token_columns(rows, study)), row_marks=marks)]
    if any(row["kwh_per_good_request"] is not None for row in rows):
        parts.append(Table(columns=tuple(_request_columns(rows, study)), row_marks=marks))
    parts.append(Sentences(texts=tuple(describe_costs(study.costs.to_dicts(), study.tariff)), emphasis="quiet"))
    notice = SIMULATED_NOTICE if study.costs["simulated"].any() else ""
    return Section(title="Money and carbon", notice=notice, parts=tuple(parts))


def _pair(study: Study) -> pl.DataFrame:
    """Return a row a block: its recommended operating point's costs, and the default clock's with `_DEFAULT`.

    Costs of the recommended operating point are null where nothing is recommended.
    """
    chosen = study.recommendations.filter(goal="energy").select(*BLOCK, *POINT, "conclusion")
    default = study.costs.filter("is_default").drop(*POINT)
    default = default.rename({name: name + _DEFAULT for name in default.columns if name not in BLOCK})
    at = study.costs.drop("is_default")
    known = chosen.filter(pl.col("conclusion") != "none").join(at, on=[*BLOCK, *POINT], how="left", nulls_equal=True)
    rows = chosen.select(*BLOCK, "conclusion").join(known.drop("conclusion"), on=BLOCK, how="left", nulls_equal=True)
    return rows.join(default, on=BLOCK, how="left", nulls_equal=True)


def _token_columns(rows: Sequence[Row], study: Study) -> list[Column]:
    kinds = [row["token_kind"] or row["token_kind@default"] or UNKNOWN for row in rows]
    columns = _block_columns(rows)
    if len(set(kinds)) > 1:
        columns.append(Column("tokens", "kind of token", tuple(kinds), 0, alignment="left"))
    return columns + _cost_columns(rows, study, "per_million_tokens", 1.0)


def _request_columns(rows: Sequence[Row], study: Study) -> list[Column]:
    return _block_columns(rows) + _cost_columns(rows, study, "per_good_request", 1e3)


def _block_columns(rows: Sequence[Row]) -> list[Column]:
    names = short_names([row["model"] for row in rows])
    return [
        _column("task", rows, lambda row: str(row["task"]), alignment_left=True),
        _column("model", rows, lambda row: names[row["model"]], alignment_left=True),
        _column(load_heading(map(read_load, rows)), rows, lambda row: short_load(read_load(row))),
        _column("set", rows, lambda row: UNKNOWN if row["conclusion"] == "none" else short_point(row)),
    ]


def _cost_columns(rows: Sequence[Row], study: Study, key: str, scale: float) -> list[Column]:
    """Return kWh, money and carbon, each as recommended and at the default clock; unknown ones are left out."""
    a_thousand = "" if key == "per_million_tokens" else "/1,000 good requests"
    quantities = (("kwh", "kWh", 0), ("cost", study.tariff.money, 0), ("co2_g", "g CO2", 1))
    columns = [
        Column(
            f"{heading}{a_thousand}{' at default' if where else ''}",
            f"{heading}{a_thousand}{' at the default clock' if where else ''}",
            tuple(_number(row[f"{quantity}_{key}{where}"], scale) for row in rows),
            rank + 2 if where else rank,
        )
        for quantity, heading, rank in quantities
        for where in (_SET, _DEFAULT)
    ]
    return [column for column in columns if set(column.cells) != {UNKNOWN}]


def _number(value: float | None, scale: float) -> str:
    return format_number(None if value is None else scale * value)


def _column(header: str, rows: Sequence[Row], cell: Callable[[Row], str], *, alignment_left: bool = False) -> Column:
    return Column(header, header, tuple(map(cell, rows)), 0, alignment="left" if alignment_left else "right")
