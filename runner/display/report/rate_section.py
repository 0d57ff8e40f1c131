"""The section about request rates: the operating point of least energy at each rate, and following the load.

A `Study` enters; a `Section` leaves. Next: `build.py`.
"""

from collections.abc import Callable, Sequence

from runner.analysis.study import Study
from runner.display.report.document import Column, Findings, Mark, Part, Section, Sentences, Table
from runner.display.text.advice import is_default_only
from runner.display.text.names import Row, short_load, short_names
from runner.display.text.quantities import UNKNOWN, format_number
from runner.display.text.rates import (
    FOLLOWING_MEANING,
    describe_attainment,
    describe_choice,
    describe_following,
    describe_saving,
)
from runner.display.text.simulated import SIMULATED_NOTICE
from runner.spec.load import read_load


def rate_section(study: Study) -> Section | None:
    """Return the section; None where no request arrived at a rate."""
    rates = study.rates.to_dicts()
    if not rates:
        return None
    said = tuple(describe_load(study))
    parts: list[Part] = [Findings(texts=said)] if said else []
    marks: tuple[Mark, ...] = tuple(_mark(row) for row in rates)
    parts.append(Table(columns=tuple(_columns(rates)), row_marks=marks))
    reasons = dict.fromkeys(f"At {short_load(read_load(row))}: {row['reason']}." for row in rates if row["reason"])
    if reasons:
        parts.append(Sentences(texts=tuple(reasons), emphasis="quiet"))
    parts.append(Sentences(texts=(FOLLOWING_MEANING,), emphasis="quiet"))
    notice = SIMULATED_NOTICE if any(row["simulated"] for row in rates) else ""
    return Section(title="Request rates", notice=notice, parts=tuple(parts))


def describe_load(study: Study) -> list[str]:
    """Say what to set for each model and task whose requests arrive at several rates; nothing of one clock alone."""
    if is_default_only(study):
        return []
    rates = study.rates.to_dicts()
    shared = ("model", "task", "burstiness", "gpu_name")
    return [
        describe_following(row, [rate for rate in rates if all(rate[name] == row[name] for name in shared)])
        for row in study.following.to_dicts()
    ]


def _columns(rates: Sequence[Row]) -> list[Column]:
    names = short_names(list(dict.fromkeys(row["model"] for row in rates)))
    percent = describe_attainment
    columns = [
        _column("task", rates, lambda row: str(row["task"]), left=True),
        _column("model", rates, lambda row: names[row["model"]], left=True),
        _column("load", rates, lambda row: short_load(read_load(row)), left=True),
        _column("set", rates, describe_choice, left=True),
        _column("J/good request", rates, lambda row: format_number(row["joules_per_good_request"])),
        _column("Δ %", rates, describe_saving),
        _column("SLO kept %", rates, lambda row: percent(row["slo_attainment_fraction"])),
        _column("at default", rates, lambda row: percent(row["default_slo_attainment_fraction"])),
        _column("busy %", rates, lambda row: percent(row["busy_fraction"])),
        _column("power W", rates, lambda row: format_number(row["mean_power_w"])),
    ]
    return [column for column in columns if column.rank == 0 or set(column.cells) != {UNKNOWN}]


def _column(header: str, rates: Sequence[Row], cell: Callable[[Row], str], *, left: bool = False) -> Column:
    rank = {"power W": 4, "busy %": 3, "at default": 2, "SLO kept %": 1}.get(header, 0)
    return Column(header, header, tuple(cell(row) for row in rates), rank, alignment="left" if left else "right")


def _mark(row: Row) -> Mark:
    if row["reason"] is not None:
        return "doubt"
    return "good" if row["change_high"] is not None and row["change_high"] < 0 else ""
