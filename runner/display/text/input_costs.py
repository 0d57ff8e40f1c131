"""What an input costs, on the terminal: the strongest correlations that hold, or a line that says why there are none.

Rows of `analysis.correlation.CORRELATIONS` enter, rich renderables leave.
"""

from collections import defaultdict
from collections.abc import Iterator

import polars as pl
from rich.console import RenderableType
from rich.rule import Rule
from rich.text import Text

from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS
from runner.display.report.columns import Column, draw_table, fit_columns
from runner.display.text.quantities import MINUS

MAX_Q_VALUE = 0.05
"""Of the correlations that are shown, so many may be false discoveries."""
NUM_SHOWN = 5
"""Of each target; sweep report --json has all."""
NAMES = {"energy_j": "energy", "latency_s": "latency", "score": "score"}
BY_CONSTRUCTION = (
    "Simulated GPU: energy and latency follow the lengths of prompt and output by construction, so that what another "
    "feature seems to add is how finely the GPU model is graded."
)


def render_correlations(correlations: pl.DataFrame, width: int, *, simulated: bool) -> Iterator[RenderableType]:
    """Draw the section; nothing for a run that measured no prompt's own energy.

    Args:
        correlations: rows of `CORRELATIONS`; those over all models and tasks are shown.
        width: cells.
        simulated: whether seconds and joules come from a GPU model.
    """
    notes = list(describe_correlations(correlations))
    if not notes:
        return
    yield from ("", Rule(Text("what an input costs"), align="left", style="dim"))
    if columns := correlation_columns(correlations):
        yield draw_table(fit_columns(columns, width)[0])
    yield from (Text(note, style="dim") for note in notes)
    if simulated:
        yield Text(BY_CONSTRUCTION, style="yellow")


def describe_correlations(correlations: pl.DataFrame) -> Iterator[str]:
    """Say how to read the strongest correlations, and why there are no others; nothing where none is known."""
    over_all = correlations.filter(scope="all")
    if explain_no_correlation(correlations):
        return
    shown, num_more = _choose(over_all)
    if shown.height:
        more = f" · {num_more} more: sweep report --json" if num_more else ""
        yield (
            "partial: correlation with the lengths of prompt and output held constant, 95 % interval · q: share of "
            f"false discoveries among all as strong, under {MAX_Q_VALUE}{more}"
        )
    for target in TARGETS if over_all.height else ():
        if target not in shown["target"]:
            yield f"{NAMES[target]}: {_explain_none(over_all.filter(target=target))}"
    for reason, features in _explain_unknown(over_all).items():
        yield f"not compared: {', '.join(features)} ({reason})"


def explain_no_correlation(correlations: pl.DataFrame) -> str | None:
    """Return why no correlation at all is known; None where one is, or where none was worked out."""
    over_all = correlations.filter(scope="all")
    if over_all["partial"].count() or over_all.is_empty():
        return None
    return next(iter(_reasons(over_all)), None)


def _choose(over_all: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The strongest correlations that hold, and how many more hold."""
    held = over_all.filter(pl.col("partial_q_value") < MAX_Q_VALUE)
    strongest = held.sort(pl.col("partial").abs(), descending=True)
    shown = pl.concat([strongest.filter(target=target).head(NUM_SHOWN) for target in TARGETS])
    return shown, held.height - shown.height


def correlation_columns(correlations: pl.DataFrame) -> list[Column]:
    """Return the table of the strongest correlations that hold; no column where none does."""
    rows, _ = _choose(correlations.filter(scope="all"))
    if rows.is_empty():
        return []
    intervals = rows.select("partial_low", "partial_high").rows()
    return [
        Column("", "", tuple(NAMES[target] for target in rows["target"]), 0, justify_left=True),
        Column("feature", "feature", tuple(rows["feature"]), 0, justify_left=True),
        Column("partial", "partial correlation", tuple(map(_signed, rows["partial"])), 0),
        Column("95 %", "interval", tuple(f"{_signed(low)} to {_signed(high)}" for low, high in intervals), 2),
        Column("q", "q-value", tuple("<0.001" if q < 0.001 else f"{q:.3f}" for q in rows["partial_q_value"]), 1),
        Column("prompts", "number of prompts", tuple(f"{number:,}" for number in rows["num_prompts"]), 3),
    ]


def _explain_none(rows: pl.DataFrame) -> str:
    """Say why a target has no correlation that holds."""
    known = rows.drop_nulls("partial")
    if known.height:
        evidence = f"q < {MAX_Q_VALUE}, {max(known['num_prompts']):,} prompts"
        return f"none of {known.height} features correlates beyond the lengths ({evidence})"
    reasons = _reasons(rows).value_counts(sort=True)
    return f"no correlation: {reasons[0, 0]}"


def _explain_unknown(rows: pl.DataFrame) -> dict[str, list[str]]:
    """Return, by reason, the features that are known beside no target, where others are."""
    known = rows.drop_nulls("partial")
    comparable = rows.filter(pl.col("target").is_in(known["target"].unique().implode()))
    explained = defaultdict(list)
    for feature in FEATURES:
        if feature not in known["feature"] and (reasons := _reasons(comparable.filter(feature=feature))).len():
            explained[reasons[0].removeprefix(f"{feature} is ")].append(feature)
    return explained


def _reasons(rows: pl.DataFrame) -> pl.Series:
    return rows.select(pl.coalesce("reason", "partial_reason").alias("reason"))["reason"].drop_nulls()


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}".replace("-", MINUS)
