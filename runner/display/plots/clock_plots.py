"""Energy and time against the SM clock, a plot for each task and load: the U and its minimum.

Rows of `operating_points.OPERATING_POINTS` enter; `Plot`s leave. Next: `all_plots.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from runner.analysis.run.operating_points import POINT
from runner.display.plots.axes import axis_for, legend_for, scale_for, spans_widely
from runner.display.plots.plot import HEIGHT, MAX_PLOTS, Plot, chart_of, file_name, is_simulated
from runner.display.text.names import Row, load_parts, name_workload, short_names, short_point, shortest_point
from runner.display.text.quantities import format_change, format_number
from runner.spec.load import LOAD_COLUMNS

_GROUP = ("task", "request_kind", *LOAD_COLUMNS, "gpu_name")
"""What one plot shows. Models share it where they fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Quantity:
    """What the vertical axis shows."""

    kind: str
    column: str
    axis: str
    is_energy: bool = False


_ENERGY = _Quantity(kind="energy", column="joules_per_token", axis="", is_energy=True)
_LATENCY = _Quantity(kind="latency", column="latency_s_p50", axis="latency, median (s)")
_RATE = _Quantity(kind="throughput", column="output_tokens_per_s", axis="output tokens per second")


def plot_energy(points: pl.DataFrame) -> list[Plot]:
    """Draw energy per token against the SM clock."""
    parts = _split(points.drop_nulls("joules_per_token"), "joules_per_token")
    return [_plot(part, replace(_ENERGY, axis=_energy_axis(part)), _varied(points)) for part in parts]


def plot_times(points: pl.DataFrame) -> list[Plot]:
    """Draw latency against the SM clock; throughput where no latency is known."""
    is_known = pl.col("latency_s_p50").is_not_null().any().over(_GROUP)
    return [
        _plot(part, quantity, _varied(points))
        for quantity, drawn in ((_LATENCY, points.filter(is_known)), (_RATE, points.filter(~is_known)))
        for part in _split(drawn, quantity.column)
    ]


def _varied(points: pl.DataFrame) -> list[str]:
    """Return what titles must name because it varies."""
    return [name for name in ("model", "gpu_name") if points[name].n_unique() > 1]


def _split(points: pl.DataFrame, column: str) -> list[pl.DataFrame]:
    """Return the points of each plot: models together where they fit on one axis, else apart, so that the U is seen."""
    drawn = points.drop_nulls(["sm_clock_mhz", column])
    parts: list[pl.DataFrame] = []
    is_curve = (pl.len() > 1).over(*_GROUP, "model")  # a single clock makes no curve
    for group in drawn.filter(is_curve).partition_by(*_GROUP, maintain_order=True):
        sound = group.filter("is_sound")[column].to_list()
        parts += group.partition_by("model", maintain_order=True) if spans_widely(sound) else [group]
    return parts[:MAX_PLOTS]


def _energy_axis(group: pl.DataFrame) -> str:
    return "J per output token" if group["token_kind"][0] == "output" else "J per prompt token"


def _plot(group: pl.DataFrame, quantity: _Quantity, varied: Sequence[str]) -> Plot:
    rows = _rows(group, quantity)
    names = list(dict.fromkeys(row["series"] for row in rows))
    named = [group[name][0] for name in varied if group[name].n_unique() == 1]
    axis = alt.Axis(format="d", tickCount=5, labelOverlap="greedy")
    x = alt.X("clock:Q", title="SM clock (MHz)", axis=axis, scale=alt.Scale(zero=False, padding=28))
    trusted = [row for row in rows if row["is_sound"]] or rows
    drawn = [row[name] for row in trusted for name in ("value", "low", "high")]
    y = alt.Y("value:Q", title=quantity.axis, axis=axis_for(drawn), scale=scale_for(drawn, padding=26))
    colour = alt.Color("series:N", legend=legend_for(names), sort=names, scale=alt.Scale(domain=names))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("model", "asked", "ran", "shown", "change", "trials")]

    def chart(name: str) -> alt.Chart:
        return chart_of(name).encode(x=x, y=y, color=colour, tooltip=tooltip)

    data = {
        "default": [row for row in rows if row["is_default"]],
        "held": [row for row in rows if row["is_sound"] and not row["is_default"]],
        "unsound": [row for row in rows if not row["is_sound"]],
        "bounded": [row for row in rows if row["low"] is not None],
        "least": [row for row in rows if row["is_least"] and quantity.is_energy],
    }
    layers = (
        ("bounded", chart("bounded").mark_rule(opacity=0.6, strokeWidth=1.5).encode(y="low:Q", y2="high:Q")),
        ("held", chart("held").mark_line(strokeWidth=1.5, opacity=0.8).encode(order="clock:Q")),
        ("held", chart("held").mark_point(filled=True, size=45, opacity=1)),
        ("default", chart("default").mark_point(shape="diamond", size=90, strokeWidth=2, opacity=1)),
        ("unsound", chart("unsound").mark_point(shape="cross", size=45, opacity=0.6)),
        ("least", chart("least").mark_point(size=190, strokeWidth=2, opacity=1)),
        ("least", chart("least").mark_text(dy=18, fontSize=11, fontWeight="bold").encode(text="label:N")),
    )
    return Plot(
        name=file_name(quantity.kind, group["task"][0], *load_parts(group.row(0, named=True)), *named),
        title=" · ".join(part for part in (name_workload(group.row(0, named=True)), *named) if part),
        note=_note(group, is_energy=quantity.is_energy),
        chart=alt.layer(*(layer for name, layer in layers if data[name])).properties(height=HEIGHT),
        data=data,
        simulated=is_simulated(group),
    )


def _rows(group: pl.DataFrame, quantity: _Quantity) -> list[dict[str, Any]]:
    points = group.to_dicts()
    names = short_names(list(dict.fromkeys(point["model"] for point in points)))
    of_series = list(_name_series(points, names))
    column = quantity.column
    return [
        {
            "series": series,
            "model": names[point["model"]],
            "clock": point["sm_clock_mhz"],
            "value": point[column],
            "low": point[f"{column}_low"],
            "high": point[f"{column}_high"],
            "is_default": point["is_default"],
            "is_sound": point["is_sound"],
            "is_least": point["is_least_energy"],
            "asked": short_point(point),
            "label": shortest_point(point),
            "ran": f"{point['sm_clock_mhz']:.0f} MHz",
            "shown": format_number(point[column]),
            "change": "base" if point["is_default"] else format_change(point[f"{column}_change"]),
            "trials": f"{point['num_averaged']} of {point['num_trials']}",
        }
        for point, series in zip(points, of_series, strict=True)
    ]


def _name_series(points: Sequence[Row], names: dict[str, str]) -> Iterator[str]:
    """Name each point's curve by its model, memory clock and power limit, as far as they vary."""
    varies = {name: any(point[name] is not None for point in points) for name in POINT}
    several_models = len(names) > 1
    for point in points:
        parts = [names[point["model"]]] if several_models else []
        if varies["mem_clock_mhz_requested"]:
            clock = point["mem_clock_mhz_requested"] or point["mem_clock_mhz"]
            parts.append("memory at its default" if clock is None else f"memory {clock:.0f} MHz")
        if varies["power_limit_w_requested"]:
            limit = point["power_limit_w_requested"]
            parts.append("no power limit" if limit is None else f"limit {limit:.0f} W")
        yield ", ".join(parts) or names[point["model"]]


def _note(group: pl.DataFrame, *, is_energy: bool) -> str:
    notes = ["◇ default clock, at the clock that ran"]
    notes += ["○ least energy"] if is_energy and group["is_least_energy"].any() else []
    notes += ["+ only trials with verdicts"] if not group["is_sound"].all() else []
    column = "joules_per_token_low" if is_energy else "latency_s_p50_low"
    notes += ["bars: 95 % interval"] if group[column].count() else []
    return " · ".join(notes)
