"""Request rates: the operating point of least energy at each rate, and what following the load saves.

Rows of `operating_points.OPERATING_POINTS` and limits enter; `RATES` and `FOLLOWING` leave. Next: study.

An operating point counts at a rate if it is sound and keeps the SLO and the limits there. The energy of a good request
decides, or of any request where there is no SLO.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from runner.analysis.advice.limits import Limits, find_exceeded
from runner.analysis.run.operating_points import OPERATING_POINTS, POINT

_GROUP = ("model", "task", "request_kind", "burstiness", "gpu_name")
_Key = tuple[Any, ...]
"""The values of `POINT`."""
PointRow = Mapping[str, Any]

RATES: dict[str, pl.DataType] = {
    **{name: OPERATING_POINTS[name] for name in _GROUP},
    "simulated": pl.Boolean(),
    "block_id": pl.String(),
    "request_rate_per_s_requested": pl.Float64(),
    "capacity_fraction": pl.Float64(),
    **{name: OPERATING_POINTS[name] for name in POINT},
    "is_default": pl.Boolean(),
    "joules_per_good_request": pl.Float64(),
    "default_joules_per_good_request": pl.Float64(),
    "change": pl.Float64(),
    "change_low": pl.Float64(),
    "change_high": pl.Float64(),
    "slo_attainment_fraction": pl.Float64(),
    "default_slo_attainment_fraction": pl.Float64(),
    "busy_fraction": pl.Float64(),
    "mean_power_w": pl.Float64(),
    "num_compared": pl.Int64(),
    "reason": pl.String(),
}
"""What `choose_by_rate` returns: a row for each rate. The columns of `POINT` hold the operating point of least energy.

joules_per_good_request: of any request where the sweep has no SLO.
change: of the energy of a good request against the default clock, with an interval that allows for the choice.
reason: why no operating point was chosen; null where one was.
"""

FOLLOWING: dict[str, pl.DataType] = {
    **{name: OPERATING_POINTS[name] for name in _GROUP},
    "simulated": pl.Boolean(),
    "num_rates": pl.Int64(),
    **{name: OPERATING_POINTS[name] for name in POINT},
    "is_default": pl.Boolean(),
    "following_change": pl.Float64(),
    "static_change": pl.Float64(),
    "following_against_static": pl.Float64(),
    "reason": pl.String(),
}
"""What `follow_load` returns: a row for each model and task with at least two rates.

The columns of `POINT` hold the best static operating point: it keeps the SLO at every rate and needs the least energy
over all of them, if each rate lasts equally long.
following_change: the energy of the best operating point at each rate, against the default clock's.
static_change: the energy of the best static operating point, against the default clock's.
following_against_static: what following the load changes beyond the best static operating point.
"""


def choose_by_rate(points: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Choose the operating point of least energy for each request rate.

    Args:
        points: [num_points] rows of `OPERATING_POINTS`. Closed loops are left out.
        limits: what an operating point must keep, beside the SLO of the sweep.
    Returns: rows of `RATES`, by model, task, burstiness and rate.
    """
    rows = [_choose(block.to_dicts(), limits) for block in _blocks(points)]
    return pl.DataFrame(rows, schema=RATES).sort(*_GROUP, "request_rate_per_s_requested", nulls_last=True)


def follow_load(points: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Compare following the load with one static operating point, and both with the default clock.

    Args: as of `choose_by_rate`.
    Returns: rows of `FOLLOWING`, by model, task and burstiness.
    """
    groups: dict[tuple[Any, ...], list[Sequence[PointRow]]] = {}
    for block in _blocks(points):
        rows = block.to_dicts()
        groups.setdefault(tuple(rows[0][name] for name in _GROUP), []).append(rows)
    found = [_follow(blocks, limits) for blocks in groups.values() if len(blocks) > 1]
    return pl.DataFrame(found, schema=FOLLOWING).sort(*_GROUP, nulls_last=True)


def _blocks(points: pl.DataFrame) -> list[pl.DataFrame]:
    is_open = pl.col("concurrency").is_null() & pl.col("burstiness").is_not_null()
    by = ("block_id", "request_rate_per_s_requested", "gpu_name")
    return points.filter(is_open).partition_by(*by, maintain_order=True)


def _metric(point: PointRow) -> str:
    return "joules_per_request" if point["slo_required_fraction"] is None else "joules_per_good_request"


def _select(points: Sequence[PointRow], limits: Limits) -> list[PointRow]:
    """Return the operating points that count at a rate."""
    return [
        point
        for point in points
        if point["is_sound"] and point[_metric(point)] is not None and not list(find_exceeded(point, limits))
    ]


def _find_default(points: Sequence[PointRow]) -> PointRow | None:
    return next((point for point in points if point["is_default"]), None)


def _choose(points: Sequence[PointRow], limits: Limits) -> dict[str, Any]:
    """Return one row of `RATES`."""
    first, default = points[0], _find_default(points)
    metric = _metric(first)
    shared = (*_GROUP, "simulated", "block_id", "request_rate_per_s_requested", "capacity_fraction")
    row: dict[str, Any] = {name: first[name] for name in shared}
    if default is not None:
        row["default_joules_per_good_request"] = default[metric]
        row["default_slo_attainment_fraction"] = default["slo_attainment_fraction"]
    counted = _select(points, limits)
    row["num_compared"] = sum(not point["is_default"] for point in counted)
    if not counted:
        return row | {"reason": _explain_none(points)}
    chosen = min(counted, key=lambda point: point[metric])
    row |= {name: chosen[name] for name in (*POINT, "is_default", "busy_fraction", "mean_power_w")}
    return row | {
        "joules_per_good_request": chosen[metric],
        "slo_attainment_fraction": chosen["slo_attainment_fraction"],
        "change": chosen[f"{metric}_change"],
        "change_low": chosen.get(f"{metric}_chosen_low"),
        "change_high": chosen.get(f"{metric}_chosen_high"),
    }


def _explain_none(points: Sequence[PointRow]) -> str:
    if any("overloaded" in point["verdicts"] for point in points) and not any(p["is_sound"] for p in points):
        return "every operating point is overloaded"
    return "no sound operating point keeps the SLO and the limits"


def _follow(blocks: Sequence[Sequence[PointRow]], limits: Limits) -> dict[str, Any]:
    """Return one row of `FOLLOWING`."""
    row: dict[str, Any] = {name: blocks[0][0][name] for name in (*_GROUP, "simulated")} | {"num_rates": len(blocks)}
    defaults = [_find_default(block) for block in blocks]
    powers = [_by_power(_select(block, limits)) for block in blocks]
    default_w = [point["mean_power_w"] for point in defaults if point is not None and point["is_sound"]]
    if len(default_w) < len(blocks) or None in default_w:
        return row | {"reason": "the default clock has no sound trial at every rate"}
    if not all(powers):
        return row | {"reason": "at some rate no operating point keeps the SLO and the limits"}
    following_w = sum(min(by_point.values()) for by_point in powers)
    static = {key: sum(p[key] for p in powers) for key in powers[0] if all(key in p for p in powers)}
    row["following_change"] = following_w / sum(default_w) - 1
    if not static:
        return row | {"reason": "no operating point keeps the SLO and the limits at every rate"}
    best = min(static, key=lambda key: static[key])
    return (
        row
        | dict(zip(POINT, best, strict=True))
        | {
            "is_default": all(value is None for value in best),
            "static_change": static[best] / sum(default_w) - 1,
            "following_against_static": following_w / static[best] - 1,
        }
    )


def _by_power(points: Sequence[PointRow]) -> dict[_Key, float]:
    """Return the mean power of each operating point, in W: its energy, if each rate lasts equally long."""
    known = (point for point in points if point["mean_power_w"] is not None)
    return {tuple(point[name] for name in POINT): point["mean_power_w"] for point in known}
