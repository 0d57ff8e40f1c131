"""What models and clocks trade against each other: the Pareto front, quality against energy, and what an input costs.

Rows of `analysis.pareto.PARETO_POINTS` and `analysis.correlation.CORRELATIONS` enter, `Plot`s leave.
"""

from dataclasses import asdict
from typing import Any

import altair as alt
import polars as pl

from runner.analysis.inputs.correlation import ALL_MODELS, make_heat_map
from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS
from runner.display.plots.labels import FONT_SIZE, place_labels
from runner.display.plots.plot import (
    HEIGHT,
    MAX_PLOTS,
    Plot,
    axis_for,
    chart_of,
    file_name,
    is_simulated,
    legend_for,
    scale_for,
    short_point,
    shortest_point,
)
from runner.display.text.findings import short_names
from runner.display.text.input_costs import BY_CONSTRUCTION, MAX_Q_VALUE, NAMES
from runner.display.text.quantities import format_number

MAX_POINTS = 600
"""Points behind the front that are drawn."""
_PADDING = 24
_WIDTH = 270
"""Pixels between the axes of the narrowest plot, on a phone; labels that fit there fit everywhere."""
_GROUP = ("task", "request_kind")
_HEAT_MAP_NOTE = (
    "partial correlation, with the lengths of prompt and output held constant · "
    f"*: holds, with a share of false discoveries under {MAX_Q_VALUE}"
)


def plot_fronts(front: pl.DataFrame) -> list[Plot]:
    """Draw energy against latency, a plot a task, the front above the rest."""
    return [_plot_front(group) for group in _compared(front)]


def plot_quality(front: pl.DataFrame) -> list[Plot]:
    """Draw quality against energy, a plot a task that has scores."""
    return [_plot_quality(group) for group in _compared(front.drop_nulls("quality"))]


def plot_heat_maps(correlations: pl.DataFrame, *, simulated: bool) -> list[Plot]:
    """Draw how each feature of a prompt goes with its energy, its latency and its score, with lengths held constant."""
    return [
        plot
        for target in TARGETS
        if correlations.height and (plot := _plot_heat_map(correlations, target, simulated)) is not None
    ]


def _compared(front: pl.DataFrame) -> list[pl.DataFrame]:
    """The tasks of which there are two points to compare."""
    groups = front.partition_by(*_GROUP, maintain_order=True)
    return [group for group in groups if group.height > 1][:MAX_PLOTS]


def _plot_front(group: pl.DataFrame) -> Plot:
    rows, names = _rows(group)
    unit = _unit(group)
    latencies, energies = ([row[name] for row in rows] for name in ("latency", "energy"))
    x_scale, y_scale = (scale_for(values, padding=_PADDING, nice=False) for values in (latencies, energies))
    x = alt.X("latency:Q", title=f"latency (s per {unit})", axis=axis_for(latencies), scale=x_scale)
    y = alt.Y("energy:Q", title=f"J per {unit}", axis=axis_for(energies), scale=y_scale)
    colour = alt.Color("model:N", legend=legend_for(names), sort=names, scale=alt.Scale(domain=names))
    on_front = [row for row in rows if row["on_front"]]
    behind = [row for row in rows if not row["on_front"]]
    front = chart_of("front").encode(x=x, y=y)
    layers = [front.mark_point(filled=True, size=80, opacity=1).encode(color=colour, tooltip=_TOOLTIP)]
    if behind:
        others = chart_of("behind").encode(x=x, y=y, color=colour, tooltip=_TOOLTIP)
        layers.insert(0, others.mark_point(filled=True, size=30, opacity=0.4))
    if not group["compares_quality"].any():
        layers.insert(0, front.mark_line(strokeDash=[4, 3], opacity=0.6, color="gray").encode(order="latency:Q"))
    with_clock = len({row["label"] for row in rows}) > 1
    with_concurrency = group["concurrency"].n_unique() > 1
    labelled = _label(on_front, behind, with_clock=with_clock, with_concurrency=with_concurrency)
    if labelled:
        align, dx, dy = (alt.expr(f"datum.{name}") for name in ("align", "dx", "dy"))
        text = chart_of("labelled").mark_text(fontSize=FONT_SIZE, baseline="middle", align=align, dx=dx, dy=dy)
        layers.append(text.encode(x=x, y=y, text="label:N"))
    compared = "energy, latency and quality" if group["compares_quality"].any() else "energy and latency"
    left_out = group.height - len(rows)
    note = f"large: on the front; no other point is as good in {compared} and better in one"
    note += f" · label: {'clock · ' if with_clock else ''}requests in flight" if with_concurrency else ""
    return Plot(
        name=file_name("pareto", group["task"][0], group["request_kind"][0]),
        title=group["task"][0],
        note=f"{note} · {left_out} points behind it are not drawn" if left_out else note,
        chart=alt.layer(*layers).properties(height=HEIGHT),
        data={"front": on_front, "behind": behind, "labelled": labelled},
        simulated=is_simulated(group),
    )


def _label(
    on_front: list[dict[str, Any]], behind: list[dict[str, Any]], *, with_clock: bool, with_concurrency: bool
) -> list[dict[str, Any]]:
    """The points of the front whose name has room beside them, of what varies; its two ends before the rest."""
    by_latency = sorted(on_front, key=lambda row: row["latency"])
    ordered = [*by_latency[:1], *by_latency[:0:-1]]
    named = [name for name, varies in (("label", with_clock), ("in flight", with_concurrency)) if varies]
    if not named:
        return []
    texts = [" · ".join(str(row[name]) for name in named) for row in ordered]
    points = [(row["latency"], row["energy"]) for row in [*ordered, *behind]]
    labels = place_labels(texts, points, width=_WIDTH, height=HEIGHT, padding=_PADDING)
    return [
        {"latency": row["latency"], "energy": row["energy"], "label": text, **asdict(label)}
        for row, text, label in zip(ordered, texts, labels, strict=True)
        if label is not None
    ]


def _plot_quality(group: pl.DataFrame) -> Plot:
    rows, names = _rows(group)
    metric = next(iter(group["quality_metric"].drop_nulls()), "quality")
    energies = [row["energy"] for row in rows]
    scale = scale_for(energies, padding=_PADDING)
    x = alt.X("energy:Q", title=f"J per {_unit(group)}", axis=axis_for(energies), scale=scale)
    colour = alt.Color("model:N", legend=legend_for(names), sort=names, scale=alt.Scale(domain=names))
    y = alt.Y("quality:Q", title=metric, scale=alt.Scale(zero=False, padding=12))
    base = chart_of("points").encode(x=x, y=y, color=colour, tooltip=_TOOLTIP)
    layers = [base.mark_point(filled=True, size=50, opacity=0.9)]
    bounded = [row for row in rows if "quality_low" in row]
    if bounded:
        bars = chart_of("bounded").mark_rule(opacity=0.4)
        layers.insert(0, bars.encode(x=x, y="quality_low:Q", y2="quality_high:Q", color=colour))
    return Plot(
        name=file_name("quality", group["task"][0], group["request_kind"][0]),
        title=f"{group['task'][0]}: {metric} against energy",
        note="each point a clock · bars: one standard error over documents",
        chart=alt.layer(*layers).properties(height=HEIGHT),
        data={"points": rows, "bounded": bounded},
        simulated=is_simulated(group),
    )


_TOOLTIP = [alt.Tooltip(f"{name}:N") for name in ("model", "point", "in flight", "J", "s", "score")]


def _rows(group: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """A plot's data, and the models' names in order."""
    others = group.filter(~pl.col("is_on_front"))
    if others.height > MAX_POINTS:
        others = others.gather_every(-(-others.height // MAX_POINTS))
    points = pl.concat([group.filter("is_on_front"), others]).to_dicts()
    names = short_names(sorted({point["model"] for point in points}))
    rows = [
        {
            "model": names[point["model"]],
            "point": short_point(point),
            "label": shortest_point(point),
            "in flight": point["concurrency"],
            "energy": point["energy_j"],
            "latency": point["latency_s"],
            "J": format_number(point["energy_j"]),
            "s": format_number(point["latency_s"]),
            "score": "–" if point["quality"] is None else f"{point['quality']:.3f}",
            "quality": point["quality"],
            **_error(point),
            "on_front": point["is_on_front"],
        }
        for point in points
    ]
    return rows, list(names.values())


def _error(point: dict[str, Any]) -> dict[str, float]:
    quality, stderr = point["quality"], point["quality_stderr"]
    if quality is None or stderr is None:
        return {}
    return {"quality_low": quality - stderr, "quality_high": quality + stderr}


def _unit(group: pl.DataFrame) -> str:
    by_request = group["joules_per_request"].null_count() == 0 and group["latency_s_p50"].null_count() == 0
    return "request" if by_request else "output token"


def _plot_heat_map(correlations: pl.DataFrame, target: str, simulated: bool) -> Plot | None:
    matrix = make_heat_map(correlations, target)
    short = short_names([name for name in matrix.columns if name not in ("feature", ALL_MODELS)])
    cells = matrix.unpivot(index="feature", variable_name="model", value_name="coefficient").drop_nulls()
    if cells.is_empty():
        return None
    held = correlations.filter(pl.col("partial_q_value") < MAX_Q_VALUE, target=target).filter(pl.col("scope") != "task")
    stars = set(held.select("feature", pl.col("model").fill_null(ALL_MODELS)).rows())
    models = [*short.values(), ALL_MODELS]
    features = [name for name in FEATURES if name in set(cells["feature"])]
    rows = [
        {
            "feature": row["feature"],
            "model": short.get(row["model"], row["model"]),
            "coefficient": row["coefficient"],
            "text": f"{row['coefficient']:+.2f}{'*' if (row['feature'], row['model']) in stars else ''}".replace(
                "-", "−"
            ),
            "is_strong": abs(row["coefficient"]) > 0.6,
        }
        for row in cells.to_dicts()
    ]
    base = chart_of("cells").encode(
        x=alt.X("model:N", title=None, sort=models, axis=alt.Axis(labelAngle=-35, labelLimit=150, ticks=False)),
        y=alt.Y("feature:N", title=None, sort=features, axis=alt.Axis(labelLimit=190)),
    )
    colour = alt.Color("coefficient:Q", scale=alt.Scale(scheme="blueorange", domain=[-1, 1]), legend=None)
    text_colour = alt.condition("datum.is_strong", alt.value("white"), alt.value("black"))
    return Plot(
        name=file_name("features", target),
        title=f"features of a prompt and its {NAMES[target]}",
        note=f"{_HEAT_MAP_NOTE} · {BY_CONSTRUCTION}" if simulated else _HEAT_MAP_NOTE,
        chart=alt.layer(
            base.mark_rect().encode(color=colour),
            base.mark_text(fontSize=11).encode(text="text:N", color=text_colour),
        ).properties(height=24 * len(features)),
        data={"cells": rows},
        simulated=simulated,
        is_broad=True,
    )
