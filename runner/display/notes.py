"""What stands below a block's table, on the terminal and on the page: what its marks mean, and what is missing and why.

Rows of `analysis.operating_points.OPERATING_POINTS` enter, text leaves. Next: report, page.
"""

from collections.abc import Iterator, Sequence

from runner.display.columns import LEAST_MARK, UNSOUND_MARK, mark
from runner.display.findings import Point
from runner.display.quantities import UNKNOWN

_ALL_PREFILL = "all_prefill"
"""The whole window is prefill, whose energy a token is the block's own."""


def describe_marks(points: Sequence[Point]) -> Iterator[str]:
    """Say what the marks of a block's table mean, and why a quality is missing.

    Args:
        points: [num_points] rows of one block.
    """
    has_unsound = any(mark(point) == UNSOUND_MARK for point in points)
    notes = []
    if any(point["is_least_energy"] for point in points):
        notes.append(f"{LEAST_MARK} least energy{' of the sound ones' if has_unsound else ''}")
    if has_unsound:
        notes.append(f"{UNSOUND_MARK} only trials with verdicts or failures: not to be trusted")
    if any(point["num_averaged"] != point["num_trials"] for point in points):
        notes.append("n: trials averaged/trials run")
    if any(point["joules_per_token_low"] is not None for point in points):
        notes.append("±: 95 %; Δ: to the default clock just before and after")
    if notes:
        yield " · ".join(notes)
    unseen = [p["energy_uncertainty_j"] / p["energy_j"] for p in points if p["energy_uncertainty_j"] and p["energy_j"]]
    if unseen:
        yield f"what the power sensor does not see: up to {100 * max(unseen):.2g} % of a trial's energy"
    metric = next((point["quality_metric"] for point in points if point["quality_metric"]), None)
    if metric is not None:
        has_error = any(point["quality_stderr"] is not None for point in points)
        yield f"quality: {metric}{', ± one standard error' if has_error else ''}"
    if cut := max((point["truncated_fraction"] or 0.0 for point in points), default=0.0):
        yield f"{max(100 * cut, 1):.0f} % of the prompts were cut from the left to fit the model"
    for reason in dict.fromkeys(p["quality_reason"] for p in points if p["quality"] is None and p["quality_reason"]):
        yield f"{UNKNOWN} in quality: {one_line(reason)}"


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
    yield f"prefill and decode by {methods} · ±: 95 %"
    for reason in dict.fromkeys(point["phase_reason"] for point in points if point["phase_reason"]):
        yield f"{UNKNOWN} in prefill or decode: {one_line(reason)}"


def one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def _is_guessing(point: Point) -> bool:
    quality, stderr, chance = point["quality"], point["quality_stderr"], point["quality_chance"]
    return None not in (quality, stderr, chance) and abs(quality - chance) <= 2 * stderr
