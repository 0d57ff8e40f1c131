"""What the numbers say: a sentence for a block, for two models, for a model's quality.

Rows of `operating_points.OPERATING_POINTS`, `model_comparison.MODEL_COMPARISONS` and `common_samples.COMMON_QUALITY`
enter; text leaves.
"""

from collections.abc import Iterator, Sequence

from runner.analysis.run.intervals import GPU_SPREAD
from runner.display.text.names import Row, name_block, name_point, name_workload, one_line
from runner.display.text.quantities import MINUS, UNKNOWN, format_change_interval, format_number

Interval = tuple[float, float | None, float | None]
"""A fraction and its bounds, which may be unknown."""

ON_EQUAL_SAMPLES = "On the samples that no model had to cut."
_GPU_PERCENT = f"{100 * GPU_SPREAD:.0f} %"


def describe_block(points: Sequence[Row]) -> str:
    """Say where a block needs the least energy, and what that costs in time and quality.

    Args:
        points: [num_points] rows of one block, one at least.
    """
    block = name_block(points[0])
    least = next((point for point in points if point["is_least_energy"]), None)
    if least is None:
        return f"{block}: no sound trial has an energy reading, so there is no result."
    unit = "J/token" if least["token_kind"] == "output" else "J/prompt token"
    energy = f"{format_number(least['joules_per_token'])} {unit}"
    if len(points) == 1:
        return f"{block}: {energy} at {name_point(least)}; no other operating point was measured."
    if sum(point["is_sound"] for point in points) == 1:
        return (
            f"{block}: {energy} at {name_point(least)}. No other operating point has a sound trial to compare it with."
        )
    parts = [f"{block}: least energy at {name_point(least)}: {energy}"]
    if least["is_default"]:
        return f"{parts[0]}; no other measured operating point needs less."
    if least["joules_per_token_change"] is None:
        return f"{parts[0]}; there is no default-clock trial to compare it with."
    parts += [_energy_saved(least), _time_lost(least), describe_quality(least)]
    return ", ".join(part for part in parts if part) + "." + "".join(f" {doubt}" for doubt in _doubts(least))


def describe_models(comparison: Row) -> str:
    """Say how much more energy one model needs than the one that needs least.

    Args:
        comparison: a row of `model_comparison.MODEL_COMPARISONS`.
    """
    ratio, low, high = (comparison[name] for name in ("ratio", "ratio_low", "ratio_high"))
    model, reference = comparison["model"], comparison["reference_model"]
    notes = [] if low is None else [f"95 %: {low:.2f} to {high:.2f}"]
    notes += [] if comparison["on_same_board"] else [f"on GPUs that may differ by {_GPU_PERCENT}"]
    finding = f"{model} needs {ratio:.2f} times the joules per request of {reference}"
    if low is not None and low <= 1:
        finding = f"{model} and {reference} cannot be told apart by joules per request: {ratio:.2f}"
    remark = f" ({', '.join(notes)})" if notes else ""
    return f"{name_workload(comparison)}: {finding}{remark}."


def describe_common_quality(row: Row) -> str:
    """Say how well a model does on the samples that fit every model.

    Args:
        row: of `common_samples.COMMON_QUALITY`.
    """
    cut = f"{row['num_truncated_samples']} of its {row['num_samples']} samples were cut to fit it"
    subject = f"{row['task']} on {row['model']}"
    if row["quality"] is None:
        return f"{subject}: not compared, {row['reason']}; {cut}."
    stderr = "" if row["quality_stderr"] is None else f" ± {row['quality_stderr']:.3f}"
    common = f"on the {row['num_common_samples']} samples that no model had to cut"
    return f"{subject}: {row['quality']:.3f}{stderr} {common}; {cut}."


def describe_quality(point: Row) -> str:
    """Say how a point's quality compares with the default clock's."""
    difference, stderr = point["quality_difference"], point["quality_difference_stderr"]
    if difference is None:
        reason = one_line(point["quality_reason"] or "")
        return f"quality not known ({reason})" if reason else "quality not known"
    if difference == 0:
        return "quality the same"
    if stderr is None:
        return f"quality {format_difference(difference)} (its error is not known)"
    if abs(difference) <= stderr:
        return "quality unchanged within its error"
    better = difference > 0 if point["quality_higher_is_better"] is not False else difference < 0
    return f"quality {'better' if better else 'worse'} ({format_difference(difference)} ± {stderr:.3f})"


def format_difference(difference: float | None) -> str:
    """Format a difference of scores with its sign."""
    if difference is None:
        return UNKNOWN
    return f"{round(difference, 3) + 0.0:+.3f}".replace("-", MINUS)


def _energy_saved(least: Row) -> str:
    interval = _interval(least, "joules_per_token_change")
    if _holds_zero(interval):
        return f"no different from the default clock within the error ({_format_signed(interval)})"
    return f"{format_amount(interval)} {'less' if interval[0] < 0 else 'more'} than the default clock"


def _time_lost(least: Row) -> str:
    if least["slowdown"] is None:
        return ""
    interval = _interval(least, "slowdown")
    if round(interval[0], 3) == 0:
        return "as fast"
    if _holds_zero(interval):
        return f"as fast within the error ({_format_signed(interval)})"
    return f"{format_amount(interval)} {'slower' if interval[0] > 0 else 'faster'}"


def _doubts(least: Row) -> Iterator[str]:
    if least["interval_reason"] is not None:
        yield f"The saving has no interval: {least['interval_reason']}."
    if least["default_is_on_same_board"] is False:
        yield f"The default clock ran on another GPU. The interval allows for {_GPU_PERCENT} between two GPUs."
    if not least["default_is_sound"]:
        yield "The default clock has no sound trial, so do not trust the comparison."


def _interval(point: Row, name: str) -> Interval:
    return point[name], point[f"{name}_low"], point[f"{name}_high"]


def _holds_zero(interval: Interval) -> bool:
    """Return whether a change may be none at all. A change without an interval is taken as it is."""
    _, low, high = interval
    return low is not None and high is not None and low <= 0 <= high


def _format_signed(interval: Interval) -> str:
    return f"{format_change_interval(*interval).replace('±', '± ')} %"


def format_amount(interval: Interval) -> str:
    """Format a change without its sign, e.g. "23.1 ± 2.0 %"."""
    return _format_signed(interval).lstrip(f"+{MINUS}")
