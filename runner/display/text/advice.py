"""What to do, a sentence each: recommendations, numbers of requests in flight, and routes.

A `Study` or rows of its frames enter; text leaves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl

from runner.analysis.advice.limits import NO_LIMITS
from runner.analysis.study import Study
from runner.display.text.findings import describe_quality, format_amount
from runner.display.text.names import Row, name_block, name_point, name_workload
from runner.display.text.quantities import format_change, format_number

_COMBINATIONS = "combinations of model, task and load"
_OTHER_CLOCKS = (
    "This run does not show whether another clock needs less energy. List clocks in the sweep file (sm_clock) and run "
    "it where you may set them; sweep doctor says what that takes on this machine."
)
ROUTING_MEANING = (
    "These savings are upper bounds, not forecasts. They assume a router that costs nothing and knows every score in "
    "advance, and that all models are loaded. An answer that is right by chance counts as right."
)


def describe_advice(study: Study) -> list[str]:
    """Say what to do: a sentence for each kind of GPU, or for the only block."""
    energy = study.recommendations.filter(goal="energy").to_dicts()
    limits = "" if study.limits == NO_LIMITS else f" Limits: {study.limits}."
    mixed = study.mixed_loads.to_dicts()
    num_saving = sum(row["conclusion"] == "saves" for row in energy)
    if mixed:
        apart = f" Set separately, {num_saving} of them would save energy." if num_saving else ""
        shown = (describe_mixed_load(row) + ("" if row["conclusion"] == "saves" else apart) for row in mixed)
        return [sentence + limits for sentence in shown]
    said = [row for row in energy if row["conclusion"] != "none"]
    if is_default_only(study) and (sound := study.points.drop_nulls("joules_per_token").filter("is_sound")).height:
        return [_describe_defaults(sound, len(energy)), _OTHER_CLOCKS, *_explain_uncounted(study)]
    if not said and len(energy) > 1:
        return [*_explain_none(energy), *_explain_uncounted(study)]
    return [f"{name_block(row)}: {describe_recommendation(row)}{limits}" for row in said or energy]


def describe_options(study: Study) -> str:
    """Say how to set limits, where a recommendation without any could cost too much time; else nothing."""
    recommended = study.recommendations.filter(pl.col("conclusion").is_in(["saves", "unproven"]))
    if study.limits != NO_LIMITS or recommended.is_empty():
        return ""
    return "No limit is set: sweep report RUN --max-slowdown 5% (or --min-quality-change, --max-ttft, --max-tpot)."


def describe_mixed_load(row: Row) -> str:
    """Say which one operating point to set for everything.

    Args:
        row: of `mixed_load.MIXED_LOADS`.
    """
    where, over = f"on {row['gpu_name']}", f"over {row['num_blocks']} {_COMBINATIONS}"
    left_out = f" {row['num_blocks_left_out']} more could not be compared." if row["num_blocks_left_out"] else ""
    if row["conclusion"] == "none":
        return f"No single operating point is recommended {where} {over}: {row['reason']}.{left_out}"
    if row["conclusion"] == "default":
        nothing = "no other operating point that is allowed in all of them saves energy"
        return f"Keep the default clock {where}: {over}, {nothing}.{left_out}"
    costs = f"{_span(row['slowdown_least'], row['slowdown_most'])}{_worst_quality(row['quality_change_worst'])}"
    if row["conclusion"] == "saves":
        saved = format_amount((row["change"], row["change_low"], row["change_high"]))
        return f"Set {name_point(row)} {where}: {over} it saves {saved} of the energy on average{costs}.{left_out}"
    return (
        f"Least energy at {name_point(row)} {where}, {over}: {format_change(row['change'])} on average{costs}; "
        f"but do not rely on it: {row['reason']}.{left_out}"
    )


def describe_recommendation(row: Row) -> str:
    """Say what to set for one model and task.

    Args:
        row: of `recommendation.RECOMMENDATIONS`.
    """
    if row["conclusion"] == "none":
        return f"no recommendation, since {row['reason']}."
    if row["conclusion"] == "default":
        return f"keep the default clock; {row['reason'] or 'no other measured operating point needs less'}."
    if row["conclusion"] == "unproven":
        less = "" if row["change"] is None else f" ({format_change(row['change'])}{_time(row)})"
        return f"least at {name_point(row)}{less}, but do not rely on it: {row['reason']}."
    amount = format_amount((row["change"], row["change_low"], row["change_high"]))
    what = "of the energy" if row["goal"] == "energy" else "of the energy-delay product"
    parts = [f"set {name_point(row)}: it saves {amount} {what}{_time(row)}", describe_quality(row)]
    return ", ".join(parts) + "." + "".join(f" {doubt}" for doubt in _doubts(row))


def describe_evidence(row: Row) -> str:
    """Say in a few words how good the evidence for a recommendation is.

    Args:
        row: of `recommendation.RECOMMENDATIONS`.
    """
    meanings = {"saves": "shown", "unproven": "not shown", "default": "the default is best", "none": "no result"}
    reason = f": {row['reason']}" if row["reason"] else ""
    doubts = f"; may break the limit on {' and '.join(row['doubtful_limits'])}" if row["doubtful_limits"] else ""
    return f"{meanings[row['conclusion']]}{reason}{doubts}"


def describe_outputs(row: Row) -> str:
    """Say whether a block's outputs are the same at every clock; nothing where they were not compared.

    Args:
        row: of `recommendation.RECOMMENDATIONS`.
    """
    least, default = row["least_output_agreement"], row["output_agreement_default"]
    if least is None:
        return ""
    if least == 1:
        return "identical"
    beside = "" if default is None else f", {100 * default:.1f} % between two default-clock trials"
    return f"at least {100 * least:.1f} % identical{beside}"


def describe_concurrency(row: Row) -> str:
    """Say how much more energy another number of requests in flight needs than the best one.

    Args:
        row: of `model_comparison.LOAD_COMPARISONS`.
    """
    best, other = row["reference_concurrency"], row["concurrency"]
    low, high = row["ratio_low"], row["ratio_high"]
    ratio = f"{row['ratio']:.2f} times" + ("" if low is None else f" (95 %: {low:.2f} to {high:.2f})")
    name = f"{row['task']} on {row['model']}"
    if low is not None and low <= 1:
        return f"{name}: {best} and {other} in flight cannot be told apart by joules per token: {ratio}."
    return f"{name}: least joules per token with {best} in flight; with {other} it takes {ratio} as many."


def describe_route(row: Row) -> str:
    """Say what a router between models could save at most.

    Args:
        row: of `routing.ROUTES`.
    """
    reference = row["reference_model"]
    where = name_workload(row)
    if row["models"][0] == reference:  # by their energy
        return f"{where}: {reference} scores best and needs the least energy, so there is nothing to route."
    others = ", ".join(model for model in row["models"] if model != reference)
    suffices = format_share(row["smaller_suffices"], row["smaller_suffices_low"], row["smaller_suffices_high"])
    saving = format_share(row["saving"], row["saving_low"], row["saving_high"])
    joules = (format_number(row[f"{which}_joules_per_sample"]) for which in ("routed", "reference"))
    return (
        f"{where}: a smaller model does as well as {reference} on "
        f"{suffices} of {row['num_samples']} samples; an ideal router between it and {others} would save {saving} "
        f"of the energy ({' against '.join(joules)} J per sample, {row['energy_method']})."
    )


def format_share(share: float, low: float, high: float) -> str:
    """Format a share with its interval as per cent."""
    return f"{100 * share:.0f} % (95 %: {100 * low:.0f} to {100 * high:.0f})"


def is_default_only(study: Study) -> bool:
    """Return whether the run tried no other operating point, for example because clocks could not be set."""
    return study.points.height > 0 and bool(study.points["is_default"].all())


def _describe_defaults(points: pl.DataFrame, num_blocks: int) -> str:
    """Say what the default clock needs: the least and the most of each kind of token."""
    spans = []
    for kind, unit in (("output", "J/token"), ("prompt", "J/prompt token")):
        ordered = points.filter(token_kind=kind).sort("joules_per_token", maintain_order=True).to_dicts()
        ends = ordered[:1] if len(ordered) == 1 else [*ordered[:1], *ordered[-1:]]
        spans += [" to ".join(f"{format_number(p['joules_per_token'])} {unit} ({name_block(p)})" for p in ends)]
    many = f" in {num_blocks} {_COMBINATIONS}" if num_blocks > 1 else ""
    return f"Only the default clock was measured{many}: {', and '.join(span for span in spans if span)}."


def _explain_none(rows: Sequence[Row]) -> Iterator[str]:
    """Say why no block has a recommendation, each reason once."""
    for reason, number in Counter(row["reason"] for row in rows).items():
        share = f"{number} of {len(rows)}" if number < len(rows) else f"any of {number}"
        yield f"No recommendation for {share} {_COMBINATIONS}: {reason}."


def _explain_uncounted(study: Study) -> Iterator[str]:
    """Say how many trials do not count, and why."""
    num_judged = study.trials.filter(pl.col("verdicts").list.len() > 0).height
    num_failed = study.trials.filter(status="failed").height
    if num_judged:
        codes = ", ".join(study.verdicts["verdict"])
        yield f"{num_judged:,} of {study.trials.height:,} trials have verdicts ({codes}) and do not count."
    if num_failed:
        yield f"{num_failed:,} of {study.trials.height:,} trials failed."


def _worst_quality(change: float | None) -> str:
    """Say how much quality the block that loses most of it loses."""
    if change is None:
        return ", quality not known for at least one of them"
    return ", quality the same" if round(change, 3) == 0 else f", {format_change(change)} in quality at worst"


def _span(least: float | None, most: float | None) -> str:
    """Say how much slower: the least and the most over all blocks."""
    if least is None or most is None:
        return ""
    if round(least, 3) == round(most, 3):
        return f", {format_change(most)} in time"
    return f", {format_change(least)} to {format_change(most)} in time"


def _time(row: Row) -> str:
    return "" if row["slowdown"] is None else f", {format_change(row['slowdown'])} in time"


def _doubts(row: Row) -> Iterator[str]:
    if row["num_compared"] > 1:
        yield f"The interval allows for the choice among {row['num_compared']} operating points."
    if row["doubtful_limits"]:
        yield f"Its interval reaches beyond the limit on {' and '.join(row['doubtful_limits'])}."
    if row["default_is_on_same_board"] is False:
        yield "The default clock ran on another GPU; the interval allows for that."
