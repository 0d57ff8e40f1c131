"""What models and clocks trade against each other: the Pareto front, quality against energy, and what an input costs.

Rows of `analysis.pareto.PARETO_POINTS` and `analysis.correlation.CORRELATIONS` enter, `Plot`s leave.
"""

from typing import Any

import altair as alt
import polars as pl

from runner.analysis.correlation import ALL_MODELS, make_heat_map
from runner.analysis.prompts import FEATURES, TARGETS
from runner.display.correlations import BY_CONSTRUCTION, NAMES
from runner.display.plots import (
    FEW_TICKS,
    HEIGHT,
    MAX_PLOTS,
    Plot,
    chart_of,
    file_name,
    is_simulated,
    legend_for,
    scale_for,
    short_names,
    short_point,
    shortest_point,
)
from runner.display.quantities import format_number

MAX_POINTS = 600
"""Points behind the front that are drawn."""
MAX_LABELS = 6
"""Points of the front that bear their clock; more would lie on each other."""
_GROUP = ("task", "request_kind")
_HEAT_MAP_NOTE = "partial correlation, with the lengths of prompt and output held constant"


def plot_fronts(front: pl.DataFrame) -> list[Plot]:
    """Draw energy against latency, a plot a task, the front above the rest."""
    return [_plot_front(group) for group in front.partition_by(*_GROUP, maintain_order=True)[:MAX_PLOTS]]


def plot_quality(front: pl.DataFrame) -> list[Plot]:
    """Draw quality against energy, a plot a task that has scores."""
    known = front.drop_nulls("quality")
    return [_plot_quality(group) for group in known.partition_by(*_GROUP, maintain_order=True)[:MAX_PLOTS]]


def plot_heat_maps(correlations: pl.DataFrame, *, simulated: bool) -> list[Plot]:
    """Draw how each feature of a prompt goes with its energy, its latency and its score, with lengths held constant."""
    return [
        plot
        for target in TARGETS
        if correlations.height and (plot := _plot_heat_map(correlations, target, simulated)) is not None
    ]


def _plot_front(group: pl.DataFrame) -> Plot:
    rows, names = _rows(group)
    unit = _unit(group)
    x_scale, y_scale = (scale_for([row[name] for row in rows], padding=18) for name in ("latency", "energy"))
    x = alt.X("latency:Q", title=f"latency (s per {unit})", axis=FEW_TICKS, scale=x_scale)
    y = alt.Y("energy:Q", title=f"J per {unit}", axis=FEW_TICKS, scale=y_scale)
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
    if len(on_front) <= MAX_LABELS:
        layers.append(front.mark_text(align="left", dx=8, dy=-6, fontSize=11).encode(text="label:N"))
    compared = "energy, latency and quality" if group["compares_quality"].any() else "energy and latency"
    left_out = group.height - len(rows)
    note = f"large: on the front; no other point is as good in {compared} and better in one"
    return Plot(
        name=file_name("pareto", group["task"][0], group["request_kind"][0]),
        title=group["task"][0],
        note=f"{note} · {left_out} points behind it are not drawn" if left_out else note,
        chart=alt.layer(*layers).properties(height=HEIGHT),
        data={"front": on_front, "behind": behind},
        simulated=is_simulated(group),
    )


def _plot_quality(group: pl.DataFrame) -> Plot:
    rows, names = _rows(group)
    metric = next(iter(group["quality_metric"].drop_nulls()), "quality")
    scale = scale_for([row["energy"] for row in rows], padding=18)
    x = alt.X("energy:Q", title=f"J per {_unit(group)}", axis=FEW_TICKS, scale=scale)
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
    models = [*short.values(), ALL_MODELS]
    features = [name for name in FEATURES if name in set(cells["feature"])]
    rows = [
        {
            "feature": row["feature"],
            "model": short.get(row["model"], row["model"]),
            "coefficient": row["coefficient"],
            "text": f"{row['coefficient']:+.2f}".replace("-", "−"),
            "is_strong": abs(row["coefficient"]) > 0.6,
        }
        for row in cells.to_dicts()
    ]
    base = chart_of("cells").encode(
        x=alt.X("model:N", title=None, sort=models, axis=alt.Axis(labelAngle=-35, labelLimit=150)),
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
