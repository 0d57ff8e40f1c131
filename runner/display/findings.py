"""What the numbers say, in one plain sentence a block.

Rows of `analysis.summary.OPERATING_POINTS` enter, text leaves. Next: report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.display.quantities import MINUS, UNKNOWN, format_change, format_number

Point = Mapping[str, Any]
"""One row of `OPERATING_POINTS`."""

NUM_ERRORS_DISTINCT = 2
"""A change counts as one from this many of its standard errors on."""


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
    parts = [f"{block}: least energy at {name_point(least)}: {energy}"]
    if least["is_default"]:
        return f"{parts[0]}; no other operating point that was measured needs less."
    if least["joules_per_token_change"] is None:
        return f"{parts[0]}; there is no default-clock trial to compare it with."
    parts += [_energy_saved(least), _time_lost(least), describe_quality(least)]
    doubt = (
        "" if least["default_is_sound"] else " The default clock has no sound trial, so do not trust the comparison."
    )
    return ", ".join(part for part in parts if part) + "." + doubt


def name_block(point: Point) -> str:
    """Name a block by its task, model and concurrency."""
    return f"{point['task']} on {point['model']}, {point['concurrency']} in flight"


def name_point(point: Point) -> str:
    """Name an operating point by what was asked for, e.g. "990 MHz, memory 2201 MHz"."""
    asked = (
        ("{} MHz", point["sm_clock_mhz_requested"]),
        ("memory {} MHz", point["mem_clock_mhz_requested"]),
        ("limit {:.0f} W", point["power_limit_w_requested"]),
    )
    return ", ".join(form.format(value) for form, value in asked if value is not None) or "the default clock"


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
    change, error = least["joules_per_token_change"], least["joules_per_token_change_sem"]
    if error is not None and abs(change) < NUM_ERRORS_DISTINCT * error:
        return f"no different from the default clock within the error ({format_change(change)} ± {100 * error:.1f} %)"
    amount = f"{abs(100 * change):.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
    return f"{amount} % {'less' if change < 0 else 'more'} than the default clock"


def _time_lost(least: Point) -> str:
    """By latency, or by throughput where no latency is known."""
    change = least["latency_s_p50_change"]
    if change is None and least["requests_per_s_change"] is not None:
        change = 1 / (1 + least["requests_per_s_change"]) - 1
    if change is None:
        return ""
    percent = f"{abs(100 * change):.1f} %"
    if percent == "0.0 %":
        return "as fast"
    return f"{percent} {'slower' if change > 0 else 'faster'}"
