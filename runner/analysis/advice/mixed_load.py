"""One operating point for all workloads of a GPU, for users who cannot set another clock for each request.

Rows of `operating_points.OPERATING_POINTS` and limits enter; `MIXED_LOADS` leave. Next: study.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from runner.analysis.advice.limits import Limits, find_exceeded, quality_change
from runner.analysis.advice.recommendation import PointRow, describe_unshown
from runner.analysis.run.operating_points import BLOCK, OPERATING_POINTS, POINT

MIXED_LOADS: dict[str, pl.DataType] = {
    "gpu_name": pl.String(),
    "simulated": pl.Boolean(),
    "conclusion": pl.String(),
    "reason": pl.String(),
    **{name: OPERATING_POINTS[name] for name in POINT},
    "num_blocks": pl.Int64(),
    "num_blocks_left_out": pl.Int64(),
    "num_compared": pl.Int64(),
    "change": pl.Float64(),
    "change_low": pl.Float64(),
    "change_high": pl.Float64(),
    "slowdown_least": pl.Float64(),
    "slowdown_most": pl.Float64(),
    "quality_change_worst": pl.Float64(),
}
"""What `recommend_for_all` returns: one row for each kind of GPU with at least two blocks that can be compared.

conclusion, reason: as in `recommendation.RECOMMENDATIONS`.
num_blocks_left_out: blocks without a sound default clock, or without another sound operating point.
change: the mean over the blocks. So it holds for a mix that spends the same energy on each of them at the default
    clock. Its interval is the mean of theirs, as if all erred in the same direction: too wide rather than too narrow.
slowdown_least, slowdown_most, quality_change_worst: over the blocks. The last is null if one of them has no score.
"""

_Key = tuple[Any, ...]
"""The values of `POINT`."""


def recommend_for_all(points: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Choose the operating point that saves most over all blocks of a kind of GPU.

    Only operating points that are sound and within the limits in every block are compared.

    Args:
        points: [num_blocks x num_points] rows of `OPERATING_POINTS`.
        limits: what an operating point must keep in each block. Its means decide.
    Returns: rows of `MIXED_LOADS`, by the GPU's name.
    """
    rows = []
    for gpu in points.drop_nulls("gpu_name").partition_by("gpu_name", maintain_order=True):
        blocks = [_by_key(block.to_dicts()) for block in gpu.partition_by(*BLOCK, maintain_order=True)]
        compared = [block for block in blocks if any(not point["is_default"] for point in block.values())]
        if len(compared) > 1:
            counts = {"num_blocks": len(compared), "num_blocks_left_out": len(blocks) - len(compared)}
            names = {"gpu_name": gpu["gpu_name"][0], "simulated": gpu["simulated"].any()}
            rows.append(names | counts | _recommend(compared, limits))
    return pl.DataFrame(rows, schema=MIXED_LOADS).sort("gpu_name")


def _by_key(block: Sequence[PointRow]) -> dict[_Key, PointRow]:
    """Return a block's operating points that can be compared, by the values of `POINT`."""
    return {
        tuple(point[name] for name in POINT): point
        for point in block
        if point["is_sound"] and point["default_is_sound"] and point["joules_per_token_change"] is not None
    }


def _recommend(blocks: Sequence[Mapping[_Key, PointRow]], limits: Limits) -> dict[str, Any]:
    by_key = {key: [block[key] for block in blocks] for key in blocks[0] if all(key in block for block in blocks)}
    num_compared = sum(not of_blocks[0]["is_default"] for of_blocks in by_key.values())
    if num_compared == 0:
        reason = "no operating point beside the default clock is sound in every one of them"
        return {"conclusion": "none", "reason": reason, "num_compared": 0}
    within = {
        key: of_blocks
        for key, of_blocks in by_key.items()
        if not any(list(find_exceeded(point, limits)) for point in of_blocks)
    }
    if not within:
        reason = "no operating point keeps the limits in every one of them"
        return {"conclusion": "none", "reason": reason, "num_compared": num_compared}
    chosen = min(within, key=lambda key: _mean(within[key], "joules_per_token_change") or 0.0)
    of_blocks = within[chosen]
    slowdowns = [point["slowdown"] for point in of_blocks if point["slowdown"] is not None]
    qualities = [quality_change(point) for point in of_blocks]
    row = dict(zip(POINT, chosen, strict=True)) | {
        "num_compared": num_compared,
        "change": _mean(of_blocks, "joules_per_token_change"),
        "change_low": _mean(of_blocks, "joules_per_token_chosen_low"),
        "change_high": _mean(of_blocks, "joules_per_token_chosen_high"),
        "slowdown_least": min(slowdowns, default=None),
        "slowdown_most": max(slowdowns, default=None),
        "quality_change_worst": min((q for q in qualities if q is not None), default=None)
        if None not in qualities
        else None,
    }
    return row | _conclude(row, of_blocks)


def _conclude(row: Mapping[str, Any], of_blocks: Sequence[PointRow]) -> dict[str, str | None]:
    if of_blocks[0]["is_default"]:
        return {"conclusion": "default"}
    if row["change_high"] is None:
        reasons = dict.fromkeys(point["interval_reason"] for point in of_blocks if point["interval_reason"])
        return {"conclusion": "unproven", "reason": "; ".join(reasons)}
    if row["change_high"] >= 0:
        return {"conclusion": "unproven", "reason": describe_unshown(row["num_compared"])}
    return {"conclusion": "saves"}


def _mean(points: Sequence[PointRow], name: str) -> float | None:
    """Return the mean of a column; None if one value is unknown."""
    values = [point[name] for point in points]
    return None if None in values else sum(values) / len(values)
