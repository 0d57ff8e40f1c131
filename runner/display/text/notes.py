"""What stands below a block's table, on the terminal and on the page: what its marks mean, and what is missing and why.

Rows of `analysis.operating_points.OPERATING_POINTS` enter, text leaves. Next: report, page.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from runner.analysis.study import Study
from runner.display.report.columns import LEAST_MARK, UNSOUND_MARK, mark
from runner.display.text.findings import Point, name_block
from runner.display.text.input_costs import explain_no_correlation
from runner.display.text.quantities import UNKNOWN

_UNSOUND_MEANING = f"{UNSOUND_MARK} only trials with verdicts or failures: not to be trusted"
_COUNT_MEANING = "n: trials averaged/trials run"
_INTERVAL_MEANING = "±: 95 %"
_ALL_PREFILL = "all_prefill"
"""The whole window is prefill, whose energy a token is the block's own."""


def describe_marks(points: Sequence[Point]) -> Iterator[str]:
    """Say what the marks of a block's table mean, and why a quality is missing.

    Args:
        points: [num_points] rows of one block.
    """
    has_unsound = any(mark(point) == UNSOUND_MARK for point in points)
    notes = []
    if len(points) > 1 and any(point["is_least_energy"] for point in points):
        notes.append(f"{LEAST_MARK} least energy{' of the sound ones' if has_unsound else ''}")
    if has_unsound:
        notes.append(_UNSOUND_MEANING)
    if any(point["num_averaged"] != point["num_trials"] for point in points):
        notes.append(_COUNT_MEANING)
    if any(point["joules_per_token_low"] is not None for point in points):
        notes.append(_INTERVAL_MEANING + ("; Δ: to the default clock just before and after" if len(points) > 1 else ""))
    if notes:
        yield " · ".join(notes)
    metric = next((point["quality_metric"] for point in points if point["quality_metric"]), None)
    if metric is not None:
        has_error = any(point["quality_stderr"] is not None for point in points)
        yield f"quality: {metric}{', ± one standard error' if has_error else ''}"
    yield from _describe_doubts(points)
    yield from (f"{UNKNOWN} in quality: {reason}" for reason in _missing_quality(points))


def describe_defaults(points: Sequence[Point]) -> Iterator[str]:
    """Say what stands in for the notes of blocks that were measured at the default clock alone.

    Args:
        points: [num_blocks] the default operating point of each.
    """
    meanings = (
        (_UNSOUND_MEANING, any(not point["is_sound"] for point in points)),
        (_COUNT_MEANING, any(point["num_averaged"] != point["num_trials"] for point in points)),
        (_INTERVAL_MEANING, any(point["joules_per_token_low"] is not None for point in points)),
    )
    if notes := [meaning for meaning, is_needed in meanings if is_needed]:
        yield " · ".join(notes)
    if metrics := dict.fromkeys(f"{p['quality_metric']} ({p['task']})" for p in points if p["quality_metric"]):
        yield f"quality: {', '.join(metrics)}"
    for point in points:
        if warning := warn_of_guessing([point]):
            yield f"{name_block(point)}: {warning}"
    yield from _describe_doubts(points)
    yield from (f"no quality: {reason}" for reason in _missing_quality(points))


def describe_gaps(study: Study) -> Iterator[str]:
    """Say what could not be worked out of the whole run, and why."""
    unphased = study.points.filter(pl.col("phase_method").is_null())
    for reason in unphased["phase_reason"].drop_nulls().unique(maintain_order=True):
        yield f"No prefill and decode energy: {one_line(reason)}"
    if reason := explain_no_correlation(study.correlations):
        yield f"No correlation with features of the prompts: {one_line(reason)}"


def _missing_quality(points: Sequence[Point]) -> list[str]:
    reasons = (p["quality_reason"] for p in points if p["quality"] is None and p["quality_reason"])
    return [one_line(reason) for reason in dict.fromkeys(reasons)]


def _describe_doubts(points: Sequence[Point]) -> Iterator[str]:
    unseen = [p["energy_uncertainty_j"] / p["energy_j"] for p in points if p["energy_uncertainty_j"] and p["energy_j"]]
    if unseen:
        yield f"what the power sensor does not see: up to {100 * max(unseen):.2g} % of a trial's energy"
    if cut := max((point["truncated_fraction"] or 0.0 for point in points), default=0.0):
        yield f"{max(100 * cut, 1):.0f} % of the prompts were cut from the left to fit the model"


def warn_of_guessing(points: Sequence[Point]) -> str | None:
    """Say that a block's quality tells nothing, where that is so."""
    if any(_is_guessing(point) for point in points):
        return f"quality is no better than guessing ({points[0]['quality_chance']:.3f})"
    return None


def choose_phased(points: Sequence[Point]) -> list[Point]:
    """Return the points whose prefill and decoding were measured apart, where that says more than the block's table."""
    measured = [point for point in points if point["phase_method"] is not None]
    return [] if all(point["phase_method"] == _ALL_PREFILL for point in measured) else measured


def describe_phases(points: Sequence[Point]) -> Iterator[str]:
    """Say how prefill and decoding were told apart.

    Args:
        points: [num_points] of `choose_phased`, one at least.
    """
    methods = ", ".join(dict.fromkeys(point["phase_method"] for point in points))
    yield f"prefill and decode per token, by {methods} · ±: 95 %"
    for reason in dict.fromkeys(point["phase_reason"] for point in points if point["phase_reason"]):
        yield f"{UNKNOWN} in prefill or decode: {one_line(reason)}"


def one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def _is_guessing(point: Point) -> bool:
    quality, stderr, chance = point["quality"], point["quality_stderr"], point["quality_chance"]
    return None not in (quality, stderr, chance) and abs(quality - chance) <= 2 * stderr
