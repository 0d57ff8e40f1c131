"""What the numbers say, in one plain sentence a block.

Rows of `analysis.operating_points.OPERATING_POINTS` enter, text leaves. Next: report.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.analysis.run.intervals import GPU_SPREAD
from runner.display.text.quantities import MINUS, UNKNOWN, format_change_interval, format_number

Point = Mapping[str, Any]
"""One row of `OPERATING_POINTS`."""
Interval = tuple[float, float | None, float | None]
"""A fraction and its bounds, which may be unknown."""

ON_EQUAL_SAMPLES = "on the samples that no model had to cut"
_GPU_PERCENT = f"{100 * GPU_SPREAD:.0f} %"


def describe_block(points: Sequence[Point]) -> str:
    """Say where a block needs the least energy, and what that costs in time and quality.

    Args:
        points: [num_points] rows of one block, one at least.
    """
    block = name_block(points[0])
    least = next((point for point in points if point["is_least_energy"]), None)
    if least is None:
        return f"{block}: no sound trial with an energy reading, so nothing can be said."
    unit = "J/token" if least["token_kind"] == "output" else "J/prompt token"
    energy = f"{format_number(least['joules_per_token'])} {unit}"
    if len(points) == 1:
        return f"{block}: {energy} at {name_point(least)}; no other operating point was measured."
    if sum(point["is_sound"] for point in points) == 1:
        return f"{block}: {energy} at {name_point(least)}, which alone has a sound trial, so nothing can be compared."
    parts = [f"{block}: least energy at {name_point(least)}: {energy}"]
    if least["is_default"]:
        return f"{parts[0]}; no other operating point that was measured needs less."
    if least["joules_per_token_change"] is None:
        return f"{parts[0]}; there is no default-clock trial to compare it with."
    parts += [_energy_saved(least), _time_lost(least), describe_quality(least)]
    return ", ".join(part for part in parts if part) + "." + "".join(f" {doubt}" for doubt in _doubts(least))


def name_block(point: Point) -> str:
    """Name a block by its task, model and concurrency."""
    in_flight = "" if point["concurrency"] is None else f", {point['concurrency']} in flight"
    return f"{point['task']} on {point['model']}{in_flight}"


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return each model's name without its folder or owner, where that tells them apart."""
    short = {model: model.rsplit("/", 1)[-1] for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}


def name_point(point: Point) -> str:
    """Name an operating point by what was asked for, e.g. "990 MHz, memory 2201 MHz"."""
    asked = (
        ("{} MHz", point["sm_clock_mhz_requested"]),
        ("memory {} MHz", point["mem_clock_mhz_requested"]),
        ("limit {:.0f} W", point["power_limit_w_requested"]),
    )
    return ", ".join(form.format(value) for form, value in asked if value is not None) or "the default clock"


def describe_models(comparison: Mapping[str, Any]) -> str:
    """Say how much more energy one model needs than the one that needs least.

    Args:
        comparison: a row of `analysis.models.MODEL_COMPARISONS`.
    """
    ratio, low, high = (comparison[name] for name in ("ratio", "ratio_low", "ratio_high"))
    model, reference = comparison["model"], comparison["reference_model"]
    notes = [] if low is None else [f"95 %: {low:.2f} to {high:.2f}"]
    notes += [] if comparison["on_same_board"] else [f"on GPUs that may differ by {_GPU_PERCENT}"]
    finding = f"{model} needs {ratio:.2f} times the joules per request of {reference}"
    if low is not None and low <= 1:
        finding = f"{model} and {reference} cannot be told apart by joules per request: {ratio:.2f}"
    remark = f" ({', '.join(notes)})" if notes else ""
    return f"{comparison['task']}, {comparison['concurrency']} in flight: {finding}{remark}."


def describe_common_quality(row: Mapping[str, Any]) -> str:
    """Say how well a model does on the samples that fit every model.

    Args:
        row: of `analysis.common_samples.COMMON_QUALITY`.
    """
    cut = f"{row['num_truncated_samples']} of its {row['num_samples']} samples were cut to fit it"
    subject = f"{row['task']} on {row['model']}"
    if row["quality"] is None:
        return f"{subject}: not compared, {row['reason']}; {cut}."
    stderr = "" if row["quality_stderr"] is None else f" ± {row['quality_stderr']:.3f}"
    return (
        f"{subject}: {row['quality']:.3f}{stderr} on the {row['num_common_samples']} that all models had whole; {cut}."
    )


def describe_quality(point: Point) -> str:
    """Say how a point's quality compares with the default clock's."""
    difference, stderr = point["quality_difference"], point["quality_difference_stderr"]
    if difference is None:
        reason = " ".join((point["quality_reason"] or "").split())
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


def _energy_saved(least: Point) -> str:
    interval = _interval(least, "joules_per_token_change")
    if _holds_zero(interval):
        return f"no different from the default clock within the error ({_format_signed(interval)})"
    return f"{format_amount(interval)} {'less' if interval[0] < 0 else 'more'} than the default clock"


def _time_lost(least: Point) -> str:
    if least["slowdown"] is None:
        return ""
    interval = _interval(least, "slowdown")
    if round(interval[0], 3) == 0:
        return "as fast"
    if _holds_zero(interval):
        return f"as fast within the error ({_format_signed(interval)})"
    return f"{format_amount(interval)} {'slower' if interval[0] > 0 else 'faster'}"


def _doubts(least: Point) -> Iterator[str]:
    if least["interval_reason"] is not None:
        yield f"How sure the saving is cannot be told: {least['interval_reason']}."
    if least["default_is_on_same_board"] is False:
        yield f"The default clock ran on another GPU: the interval allows for the {_GPU_PERCENT} that may differ."
    if not least["default_is_sound"]:
        yield "The default clock has no sound trial, so do not trust the comparison."


def _interval(point: Point, name: str) -> Interval:
    return point[name], point[f"{name}_low"], point[f"{name}_high"]


def _holds_zero(interval: Interval) -> bool:
    """A change whose interval holds 0 is no change; one without an interval is what it seems."""
    _, low, high = interval
    return low is not None and high is not None and low <= 0 <= high


def _format_signed(interval: Interval) -> str:
    return f"{format_change_interval(*interval).replace('±', '± ')} %"


def format_amount(interval: Interval) -> str:
    """Format a change without its sign, e.g. "23.1 ± 2.0 %"."""
    return _format_signed(interval).lstrip(f"+{MINUS}")
