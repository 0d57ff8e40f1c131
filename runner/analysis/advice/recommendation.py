"""Recommendations: the operating point to set for each block.

Rows of `operating_points.OPERATING_POINTS` and limits enter; `RECOMMENDATIONS` leave. docs/recommendation.md says how,
and when nothing is recommended. `mixed_load.py` chooses one operating point for all blocks. Next: study.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import polars as pl

from runner.analysis.advice.limits import Limits, find_doubtful, find_exceeded, quality_change
from runner.analysis.run.operating_points import BLOCK, GOALS, OPERATING_POINTS, POINT

Goal = Literal["energy", "energy_delay_product", "good_request"]
Conclusion = Literal["saves", "unproven", "default", "none"]
"""saves: the whole interval of the change lies below 0. unproven: it needed the least, but no saving is shown. default:
no other operating point within the limits needed less. none: there is no recommendation. `reason` says why."""

PointRow = Mapping[str, Any]
"""A row of `operating_points.OPERATING_POINTS`."""

_METRICS: dict[Goal, str] = dict(zip(get_args(Goal), GOALS, strict=True))
_TAKEN = (
    "gpu_name", "simulated", "is_default", "sm_clock_mhz", "mem_clock_mhz", "token_kind", "joules_per_token",
    "joules_per_request", "output_tokens_per_s", "requests_per_s", "latency_s_p50", "ttft_s_p95", "tpot_s_p95",
    "joules_per_token_change", "energy_delay_product_js_change", "slowdown", "slowdown_low", "slowdown_high",
    "default_is_on_same_board", "num_averaged", "quality", "quality_difference", "quality_difference_stderr",
    "quality_metric", "quality_reason", "quality_higher_is_better", "output_agreement", "output_agreement_default",
    "joules_per_good_request", "slo_attainment_fraction", "slo_required_fraction", "busy_fraction",
)  # fmt: skip

RECOMMENDATIONS: dict[str, pl.DataType] = {
    **{name: OPERATING_POINTS[name] for name in BLOCK},
    "goal": pl.String(),
    "conclusion": pl.String(),
    "reason": pl.String(),
    **{name: OPERATING_POINTS[name] for name in (*POINT, *_TAKEN)},
    "change": pl.Float64(),
    "change_low": pl.Float64(),
    "change_high": pl.Float64(),
    "num_compared": pl.Int64(),
    "num_within_limits": pl.Int64(),
    "quality_change": pl.Float64(),
    "doubtful_limits": pl.List(pl.String()),
    "least_output_agreement": pl.Float64(),
}
"""What `recommend` returns. Columns of the chosen operating point are as in `OPERATING_POINTS`, and null where
`conclusion` is none.

goal: energy: least joules per token; energy_delay_product: least joules per request times latency; good_request: least
    joules per request that keeps the SLO, where there is one.
change, change_low, change_high: of what the goal minimises, against the default clock, as a fraction. The interval
    allows for the choice among `num_compared` operating points. It is null on the default clock, or where nothing shows
    a spread.
quality_change: of the score, as a fraction of the default clock's; negative is worse.
doubtful_limits: limits that the means keep and the intervals do not.
least_output_agreement: least output_agreement over the block's sound operating points beside the default clock.
"""


def recommend(points: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Choose an operating point for each block: of least energy, of least energy-delay product, and of least energy of
    a good request where there is an SLO. An operating point that does not keep the SLO is never chosen.

    Args:
        points: [num_blocks x num_points] rows of `OPERATING_POINTS`.
        limits: what an operating point must keep. Its means decide.
    Returns: rows of `RECOMMENDATIONS`, one a block and goal, in the order of `points`.
    """
    blocks = [block.to_dicts() for block in points.partition_by(*BLOCK, maintain_order=True)]
    rows = [_recommend(block, goal, limits) for block in blocks for goal in _goals_of(block)]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS)


def _goals_of(block: Sequence[PointRow]) -> list[Goal]:
    goals: list[Goal] = ["energy", "energy_delay_product"]
    return [*goals, "good_request"] if block[0]["slo_required_fraction"] is not None else goals


def _recommend(points: Sequence[PointRow], goal: Goal, limits: Limits) -> dict[str, Any]:
    """Return one row of `RECOMMENDATIONS`."""
    row: dict[str, Any] = {name: points[0][name] for name in (*BLOCK, "gpu_name", "simulated")}
    sound = [point for point in points if point["is_sound"] and point["joules_per_token"] is not None]
    within = [point for point in sound if not list(find_exceeded(point, limits))]
    row |= {"goal": goal, "num_compared": len(sound) - any(point["is_default"] for point in sound)}
    row["num_within_limits"] = len(within)
    if why := _nothing_to_choose(sound, within, limits):
        return row | {"conclusion": "none", "reason": why}
    cost = _cost_of(within, goal)
    chosen = min(within, key=lambda point: cost[id(point)])
    metric = _METRICS[goal]
    agreements = [p["output_agreement"] for p in sound if not p["is_default"] and p["output_agreement"] is not None]
    row |= {name: chosen[name] for name in (*POINT, *_TAKEN)} | {
        "change": _change(chosen, goal),
        "change_low": chosen[f"{metric}_chosen_low"],
        "change_high": chosen[f"{metric}_chosen_high"],
        "quality_change": quality_change(chosen),
        "doubtful_limits": list(find_doubtful(chosen, limits)),
        "least_output_agreement": min(agreements, default=None),
    }
    conclusion, reason = _conclude(row, chosen)
    if chosen["is_default"] and len(within) == 1:
        reason = f"beside it, {_name_broken(sound, limits)}"
    return row | {"conclusion": conclusion, "reason": reason}


def _nothing_to_choose(sound: Sequence[PointRow], within: Sequence[PointRow], limits: Limits) -> str | None:
    if not sound:
        return "no sound trial with an energy reading"
    if len(sound) == 1:
        only = "the default clock" if sound[0]["is_default"] else "one operating point"
        return f"only {only} has a sound trial"
    if not within:
        return _name_broken(sound, limits)
    return None


def _name_broken(points: Sequence[PointRow], limits: Limits) -> str:
    broken = dict.fromkeys(name for point in points for name in find_exceeded(point, limits))
    return f"no operating point that was measured keeps the limits: {', '.join(broken)}"


def _cost_of(points: Sequence[PointRow], goal: Goal) -> dict[int, float]:
    """Return what each operating point costs, by the id of its row.

    The change counts where every one of them has it, since neither drift nor the GPU affects it. Else the mean does.
    """
    changes = {id(point): _change(point, goal) for point in points}
    known = {key: change for key, change in changes.items() if change is not None}
    if len(known) == len(points) and all(point["default_is_sound"] for point in points):
        return known
    means = {id(point): point[_METRICS[goal]] for point in points}
    return {key: float("inf") if mean is None else mean for key, mean in means.items()}


def _change(point: PointRow, goal: Goal) -> float | None:
    """Return the change against the default clock; None where unknown.

    Where requests were not counted, the change of the energy-delay product comes from those of its two factors.
    """
    change: float | None = point[f"{_METRICS[goal]}_change"]
    if goal != "energy_delay_product" or change is not None:
        return change
    if point["joules_per_token_change"] is None or point["slowdown"] is None:
        return None
    return float((1 + point["joules_per_token_change"]) * (1 + point["slowdown"]) - 1)


def _conclude(row: Mapping[str, Any], chosen: PointRow) -> tuple[Conclusion, str | None]:
    if chosen["is_default"]:
        return "default", None
    if not chosen["default_is_sound"]:
        return "unproven", "there is no sound default-clock trial to compare with"
    if row["change_high"] is None:
        return "unproven", chosen["interval_reason"] or "nothing shows how far its trials spread"
    if row["change_high"] >= 0:
        return "unproven", describe_unshown(row["num_compared"])
    return "saves", None


def describe_unshown(num_compared: int) -> str:
    """Say why no saving is shown where the interval of the change holds 0."""
    among = f", when the choice among {num_compared} points is allowed for" if num_compared > 1 else ""
    return f"the saving is no larger than its error{among}"
