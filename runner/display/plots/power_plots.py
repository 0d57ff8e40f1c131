"""Power over time of a few trials that stand for the rest, with the window and the engine's phases in it.

A `Study` and the run directory enter; `Plot`s leave. Next: `all_plots.py`.
"""

from collections.abc import Iterator

import altair as alt
import polars as pl

from runner.analysis.run.operating_points import BLOCK, POINT
from runner.analysis.study import Study
from runner.analysis.window.power_trace import find_phases, thin_power
from runner.display.plots.plot import Plot, chart_of, file_name
from runner.display.text.names import Row, load_parts, name_block, name_point
from runner.results.run_directory import RunStore

_HEIGHT = 200
_TRACE = "#d64550"
_COLOURS = {"window": "#9aa5b1", "prefill": "#f58518", "decode": "#4c78a8", "both": "#7f3fbf"}


def plot_power(study: Study, store: RunStore) -> list[Plot]:
    """Draw a trial at the default clock and one at the recommended point, of a block of each kind of request."""
    return [plot for trial in _choose(study) if (plot := _plot(trial, store)) is not None]


def _choose(study: Study) -> Iterator[Row]:
    """Yield trials of the block that saves most, or else of the first one, for each kind of request."""
    sound = study.trials.filter(
        pl.col("status") == "ok", pl.col("verdicts").list.len() == 0, pl.col("phase_role").is_null()
    )
    blocks = study.recommendations.filter(goal="energy").sort("change", nulls_last=True, maintain_order=True)
    for block in blocks.unique("request_kind", keep="first", maintain_order=True).to_dicts():
        trials = sound.filter(pl.col(name).eq_missing(block[name]) for name in BLOCK)
        points = [dict.fromkeys(POINT), {name: block[name] for name in POINT}]
        for point in points if any(points[1].values()) else points[:1]:
            yield from trials.filter(pl.col(name).eq_missing(point[name]) for name in POINT).head(1).to_dicts()


def _plot(trial: Row, store: RunStore) -> Plot | None:
    """Return the plot of a trial; None where it has no trace."""
    if trial["start_ns"] is None or trial["duration_s"] is None:
        return None
    start_ns, end_ns = trial["start_ns"], trial["start_ns"] + round(trial["duration_s"] * 1e9)
    trace = thin_power(store.read_power(trial["trial_id"]), start_ns)
    if trace.is_empty():
        return None
    phases = find_phases(store.read_requests(trial["trial_id"]), start_ns, end_ns)
    names = ["window", *(name for name in ("prefill", "decode", "both") if name in set(phases["phase"]))]
    bands = [{"phase": "window", "start_s": 0.0, "end_s": trial["duration_s"]}, *phases.to_dicts()]
    colour = alt.Color(
        "phase:N",
        scale=alt.Scale(domain=names, range=[_COLOURS[name] for name in names]),
        legend=alt.Legend(orient="top", title=None),
    )
    x = alt.X("time_s:Q", title="s since the window opened", scale=alt.Scale(nice=False))
    readings = chart_of("readings").encode(x=x)
    power = alt.Y("mean_w:Q", title="power (W)", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    chart = alt.layer(
        chart_of("bands").mark_rect(opacity=0.4).encode(x="start_s:Q", x2="end_s:Q", color=colour),
        readings.mark_area(opacity=0.3, color=_TRACE).encode(y="least_w:Q", y2="greatest_w:Q"),
        readings.mark_line(strokeWidth=1.2, color=_TRACE).encode(y=power),
    )
    point = name_point(trial)
    return Plot(
        name=file_name("power", trial["task"], trial["model"], *load_parts(trial), point.replace(" ", "_")),
        title=f"{name_block(trial)}, {point}",
        note="line: mean of several readings, with their range · shaded: the window and the engine's phases",
        chart=chart.properties(height=_HEIGHT),
        data={"readings": trace.to_dicts(), "bands": bands},
        simulated=bool(trial["simulated"]),
    )
