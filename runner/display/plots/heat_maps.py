"""Correlations between the features of prompts and their energy, latency and score: a heat map for each target.

Rows of `correlation.CORRELATIONS` enter; `Plot`s leave. Next: `all_plots.py`.
"""

import altair as alt
import polars as pl

from runner.analysis.inputs.correlation import ALL_MODELS, make_heat_map
from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS
from runner.display.plots.plot import Plot, chart_of, file_name
from runner.display.text.correlations import MAX_Q_VALUE, TARGET_NAMES
from runner.display.text.names import short_names
from runner.display.text.quantities import MINUS

_NOTE = (
    "partial correlation, with the lengths of prompt and output held constant · "
    f"*: holds, with a share of false discoveries under {MAX_Q_VALUE}"
)


def plot_heat_maps(correlations: pl.DataFrame, *, simulated: bool) -> list[Plot]:
    """Draw the partial correlation of each feature with energy, latency and score; none where none is known."""
    return [
        plot
        for target in TARGETS
        if correlations.height and (plot := _plot_heat_map(correlations, target, simulated)) is not None
    ]


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
                "-", MINUS
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
        title=f"Features of a prompt and its {TARGET_NAMES[target]}",
        note=_NOTE,
        chart=alt.layer(
            base.mark_rect().encode(color=colour),
            base.mark_text(fontSize=11).encode(text="text:N", color=text_colour),
        ).properties(height=24 * len(features)),
        data={"cells": rows},
        simulated=simulated,
        is_broad=True,
    )
