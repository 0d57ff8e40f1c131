"""What an input costs, in words: the strongest correlations that hold, how to read them, and why there are no others.

Rows of `correlation.CORRELATIONS` enter; text leaves.
"""

from collections import defaultdict
from collections.abc import Iterator

import polars as pl

from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS
from runner.display.text.names import one_line

MAX_Q_VALUE = 0.05
"""The expected share of false discoveries among the correlations that are shown."""
NUM_SHOWN = 5
"""Correlations shown for each target; sweep report --json has all."""
TARGET_NAMES = {"energy_j": "energy", "latency_s": "latency", "score": "score"}


def describe_correlations(correlations: pl.DataFrame) -> Iterator[str]:
    """Say how to read the strongest correlations, and why there are no others; nothing where none is known."""
    over_all = correlations.filter(scope="all")
    if explain_no_correlation(correlations):
        return
    shown, num_more = choose_strongest(correlations)
    if shown.height:
        more = f" · {num_more} more: sweep report --json" if num_more else ""
        yield (
            "partial: correlation with the lengths of prompt and output held constant, with its 95 % interval · q: "
            "expected share of false discoveries among all correlations at least as strong; shown where "
            f"q < {MAX_Q_VALUE}{more}"
        )
    for target in TARGETS if over_all.height else ():
        if target not in shown["target"]:
            yield f"{TARGET_NAMES[target]}: {_explain_none(over_all.filter(target=target))}"
    for reason, features in _explain_unknown(over_all).items():
        yield f"not compared: {', '.join(features)} ({reason})"


def explain_no_correlation(correlations: pl.DataFrame) -> str | None:
    """Return why no correlation at all is known; None where one is, or where the run measured none."""
    over_all = correlations.filter(scope="all")
    if over_all["partial"].count() or over_all.is_empty():
        return None
    reason = next(iter(_reasons(over_all)), None)
    return None if reason is None else one_line(reason)


def choose_strongest(correlations: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the strongest correlations over all models and tasks that hold, and how many more hold."""
    held = correlations.filter(pl.col("partial_q_value") < MAX_Q_VALUE, scope="all")
    strongest = held.sort(pl.col("partial").abs(), descending=True)
    shown = pl.concat([strongest.filter(target=target).head(NUM_SHOWN) for target in TARGETS])
    return shown, held.height - shown.height


def _explain_none(rows: pl.DataFrame) -> str:
    """Say why no correlation of a target holds."""
    known = rows.drop_nulls("partial")
    if known.height:
        evidence = f"q < {MAX_Q_VALUE}, {max(known['num_prompts']):,} prompts"
        return f"none of {known.height} features correlates beyond the lengths ({evidence})"
    reasons = _reasons(rows).value_counts(sort=True)
    return f"no correlation: {reasons[0, 0]}"


def _explain_unknown(rows: pl.DataFrame) -> dict[str, list[str]]:
    """Return, by reason, the features without a known correlation with any target, where others have one."""
    known = rows.drop_nulls("partial")
    comparable = rows.filter(pl.col("target").is_in(known["target"].unique().implode()))
    explained = defaultdict(list)
    for feature in FEATURES:
        if feature not in known["feature"] and (reasons := _reasons(comparable.filter(feature=feature))).len():
            explained[reasons[0].removeprefix(f"{feature} is ")].append(feature)
    return explained


def _reasons(rows: pl.DataFrame) -> pl.Series:
    return rows.select(pl.coalesce("reason", "partial_reason").alias("reason"))["reason"].drop_nulls()
