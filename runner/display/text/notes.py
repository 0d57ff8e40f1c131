"""The notes below a block's table: what its marks mean, what is missing, and why.

Rows of `operating_points.OPERATING_POINTS` enter; text leaves.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from runner.analysis.study import Study
from runner.display.text.correlations import explain_no_correlation
from runner.display.text.names import Row, name_block, one_line

LEAST_MARK, UNSOUND_MARK = "▸", "!"
_UNSOUND_MEANING = f"{UNSOUND_MARK} every trial has a verdict or failed: do not trust the row"
_COUNT_MEANING = "n: trials averaged/trials run"
_INTERVAL_MEANING = "±: 95 % interval"
_ALL_PREFILL = "all_prefill"
"""The method of a block whose whole window is prefill. Its energy per prefill token is the block's energy per token."""


def mark_point(point: Row) -> str:
    """Return the sign before a row: least energy, or not to be trusted."""
    return LEAST_MARK if point["is_least_energy"] else mark_unsound(point)


def mark_unsound(point: Row) -> str:
    """Return the sign before a row without a sound trial."""
    return "" if point["is_sound"] else UNSOUND_MARK


def describe_marks(points: Sequence[Row]) -> Iterator[str]:
    """Say what the marks of a block's table mean, and why a quality is missing.

    Args:
        points: [num_points] rows of one block.
    """
    has_unsound = any(mark_point(point) == UNSOUND_MARK for point in points)
    notes = []
    if len(points) > 1 and any(point["is_least_energy"] for point in points):
        notes.append(f"{LEAST_MARK} least energy{' of the sound ones' if has_unsound else ''}")
    if has_unsound:
        notes.append(_UNSOUND_MEANING)
    if any(point["num_averaged"] != point["num_trials"] for point in points):
        notes.append(_COUNT_MEANING)
    if any(point["joules_per_token_low"] is not None for point in points):
        notes.append(
            _INTERVAL_MEANING + ("; Δ: change from the default clock just before and after" if len(points) > 1 else "")
        )
    if notes:
        yield " · ".join(notes)
    metric = next((point["quality_metric"] for point in points if point["quality_metric"]), None)
    if metric is not None:
        has_error = any(point["quality_stderr"] is not None for point in points)
        yield f"quality: {metric}{', ± one standard error' if has_error else ''}"
    yield from _describe_doubts(points)
    yield from (f"no quality: {reason}" for reason in _missing_quality(points))


def describe_defaults(points: Sequence[Row]) -> Iterator[str]:
    """Say for blocks that were measured only at the default clock what `describe_marks` says of the others.

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
    """Say what the whole run does not show, and why."""
    unphased = study.points.filter(pl.col("phase_method").is_null())
    for reason in unphased["phase_reason"].drop_nulls().unique(maintain_order=True):
        yield f"No prefill and decode energy: {one_line(reason)}"
    if reason := explain_no_correlation(study.correlations):
        yield f"No correlation with features of the prompts: {reason}"


def _missing_quality(points: Sequence[Row]) -> list[str]:
    reasons = (p["quality_reason"] for p in points if p["quality"] is None and p["quality_reason"])
    return [one_line(reason) for reason in dict.fromkeys(reasons)]


def _describe_doubts(points: Sequence[Row]) -> Iterator[str]:
    unseen = [p["energy_uncertainty_j"] / p["energy_j"] for p in points if p["energy_uncertainty_j"] and p["energy_j"]]
    if unseen:
        yield f"energy uncertainty: up to {100 * max(unseen):.2g} % of a trial's energy"
    if cut := max((point["truncated_fraction"] or 0.0 for point in points), default=0.0):
        yield f"{max(100 * cut, 1):.0f} % of the prompts were cut from the left to fit the model"


def warn_of_guessing(points: Sequence[Row]) -> str | None:
    """Say that a block's quality is no better than guessing; None where it is better or unknown."""
    if any(_is_guessing(point) for point in points):
        return f"quality is no better than guessing ({points[0]['quality_chance']:.3f})"
    return None


def choose_phased(points: Sequence[Row]) -> list[Row]:
    """Return the points with energies of prefill and decoding, where these say more than the block's table."""
    measured = [point for point in points if point["phase_method"] is not None]
    return [] if all(point["phase_method"] == _ALL_PREFILL for point in measured) else measured


def describe_phases(points: Sequence[Row]) -> Iterator[str]:
    """Say how the energies of prefill and decoding were separated.

    Args:
        points: [num_points] of `choose_phased`, one at least.
    """
    methods = ", ".join(dict.fromkeys(point["phase_method"] for point in points))
    yield f"prefill and decode energy per token, by {methods} · {_INTERVAL_MEANING}"
    for reason in dict.fromkeys(point["phase_reason"] for point in points if point["phase_reason"]):
        yield f"no prefill or decode energy: {one_line(reason)}"


def _is_guessing(point: Row) -> bool:
    quality, stderr, chance = point["quality"], point["quality_stderr"], point["quality_chance"]
    return None not in (quality, stderr, chance) and abs(quality - chance) <= 2 * stderr
