"""What models and operating points trade against each other: the Pareto front, and quality against energy.

Rows of `pareto.PARETO_POINTS` enter; `Plot`s leave. Next: `all_plots.py`.
"""

from dataclasses import asdict
from typing import Any

import altair as alt
import polars as pl

from runner.display.plots.axes import axis_for, legend_for, scale_for
from runner.display.plots.labels import FONT_SIZE, place_labels
from runner.display.plots.plot import HEIGHT, MAX_PLOTS, Plot, chart_of, file_name, is_simulated
from runner.display.text.names import LOAD_HEADING, short_load, short_names, short_point, shortest_point
from runner.display.text.quantities import UNKNOWN, format_number
from runner.spec.load import LOAD_COLUMNS, read_load

MAX_POINTS = 600
"""Points behind the front that are drawn at most."""
_PADDING = 24
_WIDTH = 270
"""Pixels between the axes of the narrowest plot, on a phone; labels that fit there fit everywhere."""
_GROUP = ("task", "request_kind")


def plot_fronts(front: pl.DataFrame) -> list[Plot]:
    """Draw energy against latency, a plot for each task, with the front above the rest."""
    return [_plot_front(group) for group in _compared(front)]


def plot_quality(front: pl.DataFrame) -> list[Plot]:
    """Draw quality against energy, a plot for each task that has scores."""
    return [_plot_quality(group) for group in _compared(front.drop_nulls("quality"))]


def _compared(front: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the points of each task that has two to compare."""
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
    with_load = group.select(LOAD_COLUMNS).n_unique() > 1
    labelled = _label(on_front, behind, with_clock=with_clock, with_load=with_load)
    if labelled:
        align, dx, dy = (alt.expr(f"datum.{name}") for name in ("align", "dx", "dy"))
        text = chart_of("labelled").mark_text(fontSize=FONT_SIZE, baseline="middle", align=align, dx=dx, dy=dy)
        layers.append(text.encode(x=x, y=y, text="label:N"))
    compared = "energy, latency and quality" if group["compares_quality"].any() else "energy and latency"
    left_out = group.height - len(rows)
    note = f"large: on the front, where no other operating point is as good in {compared} and better in one"
    note += f" · label: {'clock · ' if with_clock else ''}requests in flight" if with_load else ""
    return Plot(
        name=file_name("pareto", group["task"][0], group["request_kind"][0]),
        title=group["task"][0],
        note=f"{note} · {left_out} points behind it are not drawn" if left_out else note,
        chart=alt.layer(*layers).properties(height=HEIGHT),
        data={"front": on_front, "behind": behind, "labelled": labelled},
        simulated=is_simulated(group),
    )


def _label(
    on_front: list[dict[str, Any]], behind: list[dict[str, Any]], *, with_clock: bool, with_load: bool
) -> list[dict[str, Any]]:
    """Return labels of points on the front where there is room for what varies; the two ends come first."""
    by_latency = sorted(on_front, key=lambda row: row["latency"])
    ordered = [*by_latency[:1], *by_latency[:0:-1]]
    named = [name for name, varies in (("label", with_clock), (LOAD_HEADING, with_load)) if varies]
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
        note="one mark for each operating point · bars: one standard error over documents",
        chart=alt.layer(*layers).properties(height=HEIGHT),
        data={"points": rows, "bounded": bounded},
        simulated=is_simulated(group),
    )


_TOOLTIP = [alt.Tooltip(f"{name}:N") for name in ("model", "point", LOAD_HEADING, "J", "s", "score")]


def _rows(group: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a plot's data, and the models' names in order."""
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
            LOAD_HEADING: short_load(read_load(point)),
            "energy": point["energy_j"],
            "latency": point["latency_s"],
            "J": format_number(point["energy_j"]),
            "s": format_number(point["latency_s"]),
            "score": UNKNOWN if point["quality"] is None else f"{point['quality']:.3f}",
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
