"""Limits that a recommended operating point must keep: read from text, checked, and compared with operating points.

Options of `sweep report` enter, `Limits` leave. Next: recommendation.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.spec.values import parse_time_s

_PERCENT = re.compile(r"^([+-]?\d+(?:\.\d+)?)\s*%$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits on an operating point; None where there is no limit."""

    max_slowdown: float | None = None
    """The most that the same work may take longer than at the default clock, as a fraction."""
    min_quality_change: float | None = None
    """The least change of the score, as a fraction of the default clock's; negative is worse."""
    max_ttft_s: float | None = None
    """On the 95th percentile of the time to first token."""
    max_tpot_s: float | None = None
    """On the 95th percentile of the time per output token after the first."""

    def __str__(self) -> str:
        parts = (
            ("at most {:g} % slower", self.max_slowdown, 100),
            ("quality changed by {:+g} % at worst", self.min_quality_change, 100),
            ("TTFT at most {:g} ms", self.max_ttft_s, 1e3),
            ("TPOT at most {:g} ms", self.max_tpot_s, 1e3),
        )
        return ", ".join(
            text.format(scale * value).replace("-", "−") for text, value, scale in parts if value is not None
        )


NO_LIMITS = Limits()


def parse_limits(
    *,
    max_slowdown: str | None = None,
    min_quality_change: str | None = None,
    max_ttft: str | None = None,
    max_tpot: str | None = None,
) -> Limits:
    """Read limits as the command line takes them: "5%", "-0.5%", "0.5s", "50ms".

    Raises: ValueError: the message names the option, its value and what is allowed.
    """
    return Limits(
        max_slowdown=_read_percent("--max-slowdown", max_slowdown, 0.0, 1000.0, "5%"),
        min_quality_change=_read_percent("--min-quality-change", min_quality_change, -100.0, 0.0, "-0.5%"),
        max_ttft_s=_read_time("--max-ttft", max_ttft, "0.5s or 500ms"),
        max_tpot_s=_read_time("--max-tpot", max_tpot, "50ms or 0.05s"),
    )


def find_exceeded(point: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """Yield the names of the limits that an operating point's means do not keep, or whose value is unknown.

    Limits on TTFT and TPOT do not apply to log-likelihoods, which generate no token.

    Args:
        point: a row of `operating_points.OPERATING_POINTS`.
    """
    for name, value, limit in _compare(point, limits, "", quality_change(point)):
        if value is None:
            yield f"{name} (not known)"
        elif value > limit:
            yield name


def find_doubtful(point: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """Yield the names of the limits that an operating point's intervals do not keep. Unknown intervals are passed over.

    Quality is doubtful if two standard errors reach beyond the limit, unless every output equals the default clock's.

    Args:
        point: a row of `operating_points.OPERATING_POINTS`.
    """
    compared = _compare(point, limits, "_high", _worst_quality_change(point))
    return (name for name, value, limit in compared if value is not None and value > limit)


def _compare(
    point: Mapping[str, Any], limits: Limits, bound: str, change_of_quality: float | None
) -> Iterator[tuple[str, float | None, float]]:
    """Yield each limit that is set: its name, the operating point's value, and what that must not exceed.

    An SLO is a limit that the sweep itself has set.
    """
    generates = point["request_kind"] == "generate"
    if limits.max_slowdown is not None:
        yield "slowdown", point[f"slowdown{bound}"], limits.max_slowdown
    if limits.min_quality_change is not None:
        yield "quality", None if change_of_quality is None else -change_of_quality, -limits.min_quality_change
    if (required := point.get("slo_required_fraction")) is not None:
        attained = point[f"slo_attainment_fraction{'_low' if bound else ''}"]
        yield "SLO", None if attained is None else -attained, -required
    if limits.max_ttft_s is not None and generates:
        yield "TTFT", point[f"ttft_s_p95{bound}"], limits.max_ttft_s
    if limits.max_tpot_s is not None and generates:
        yield "TPOT", point[f"tpot_s_p95{bound}"], limits.max_tpot_s


def quality_change(point: Mapping[str, Any]) -> float | None:
    """Return the change of the score as a fraction of the default clock's; negative is worse, None is unknown."""
    if point["is_default"]:
        return 0.0
    quality, difference = point["quality"], point["quality_difference"]
    if quality is None or difference is None or quality == difference:
        return None
    better = difference if point["quality_higher_is_better"] is not False else -difference
    return float(better / abs(quality - difference))


def _worst_quality_change(point: Mapping[str, Any]) -> float | None:
    change, stderr = quality_change(point), point["quality_difference_stderr"]
    if change is None or stderr is None or point["output_agreement"] == 1:
        return change
    return float(change - 2 * stderr / abs(point["quality"] - point["quality_difference"]))


def _read_percent(option: str, text: str | None, low: float, high: float, example: str) -> float | None:
    if text is None:
        return None
    match = _PERCENT.match(text.strip())
    if not match or not low <= float(match[1]) <= high:
        allowed = f"a percentage from {low:g}% to {high:g}%, such as {example}"
        raise ValueError(f"{option} = {text!r} is not allowed: give {allowed}")
    return float(match[1]) / 100


def _read_time(option: str, text: str | None, example: str) -> float | None:
    if text is None:
        return None
    time_s = parse_time_s(text)
    if time_s is None:
        raise ValueError(f"{option} = {text!r} is not allowed: give a time above 0 with its unit, such as {example}")
    return time_s
