"""Drift of a GPU through a block, which its sentinels show: default-clock trials before, between and after the others.

Rows of `tables.TRIALS` enter; the same rows leave. Those between two sentinels that differ have one more verdict.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import hypot
from typing import Any

import polars as pl

MAX_DRIFT = 0.02
"""As far apart as the two energy sources of one trial may be. A smaller drift is lost in the measurement."""

PACE_SLACK_S = 0.1
"""A paced engine may trail the simulated GPU by so much before the time counts as lost (MAX_LAG_NS of the paced
engine). At the end of a window that is time that no GPU took."""

_GPU_AND_BLOCK = ("block_id", "gpu")
_MEASURED = (
    "energy_j",
    "energy_uncertainty_j",
    "duration_s",
    "pace_lost_s",
    "request_kind",
    "num_output_tokens",
    "num_prompt_tokens",
    "num_requests",
    "num_requests_left_out",
)
SAME_LENGTH = 0.005
"""How far the mean lengths of two windows' prompts and outputs may be apart, as a fraction, where a window was cut."""


def mark_sentinel_drift(trials: pl.DataFrame) -> pl.DataFrame:
    """Add `sentinel_drift` to the verdicts of the trials that a drift may have affected.

    Two sentinels of a block are compared if they follow each other in time on one GPU. If they differ, the trials
    between them and the later sentinel get the verdict. A sentinel that has a verdict of its own is passed over; its
    retry may count.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, in any order.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    counts = pl.col("is_sentinel") & (pl.col("status") == "ok") & (pl.col("verdicts").list.len() == 0)
    placed = trials.with_row_index("place").with_columns(gpu=pl.col("gpu_uuids").list.first()).sort("start_ns")
    sentinels = placed.filter(counts).select("place", *_GPU_AND_BLOCK, *_MEASURED)
    drifted = [
        after["place"]
        for _, group in sentinels.group_by(_GPU_AND_BLOCK, maintain_order=True)
        for before, after in pairwise(group.to_dicts())
        if describe_drift(before, after)
    ]
    if not drifted:
        return trials
    # Each trial is judged by the next sentinel that counts.
    is_touched = pl.when(counts).then(pl.col("place").is_in(drifted)).backward_fill().over(_GPU_AND_BLOCK)
    return (
        placed.with_columns(is_touched=is_touched.fill_null(value=False) & (pl.col("status") == "ok"))
        .with_columns(
            verdicts=pl.when("is_touched")
            .then(pl.concat_list("verdicts", pl.lit(["sentinel_drift"])))
            .otherwise("verdicts")
        )
        .sort("place")
        .select(trials.columns)
    )


def describe_drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return by how much a sentinel differs from the one before it; None where that is within the limits.

    Energy and time are compared per token, since answers of natural length differ from one trial to the next without
    any drift. Two windows that `max_window_s` has cut are compared only if their prompts and outputs are as long on
    average. A difference does not count if the uncertainty of the two energies, or what pacing leaves open of the two
    times, explains it.

    Args:
        before, after: rows of `tables.TRIALS`.
    """
    if not _is_same_work(before, after):
        return None
    changes = []
    for name, what in (("energy_j", "energy"), ("duration_s", "time")):
        old, new = _per_token(before, name), _per_token(after, name)
        if not old or not new:
            continue
        uncertainty = hypot(_uncertainty(before, name), _uncertainty(after, name))
        if abs(new / old - 1) > max(MAX_DRIFT, uncertainty):
            changes.append(f"{what} per token {new / old - 1:+.1%}")
    return ", ".join(changes) or None


def _is_same_work(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if not before.get("num_requests_left_out") and not after.get("num_requests_left_out"):
        return True
    for name in ("num_prompt_tokens", "num_output_tokens"):
        old, new = (row[name] / row["num_requests"] for row in (before, after))
        if abs(new - old) > SAME_LENGTH * max(old, new):
            return False
    return True


def _per_token(row: Mapping[str, Any], name: str) -> float | None:
    """Return a quantity per output token, or per prompt token where nothing is generated; None where unknown."""
    count = row["num_output_tokens"] if row["request_kind"] == "generate" else row["num_prompt_tokens"]
    return row[name] / count if row[name] is not None and count else None


def _uncertainty(row: Mapping[str, Any], name: str) -> float:
    """Return the half-width of a quantity's uncertainty as a share of it; 0 where that is unknown."""
    if name == "energy_j":
        half_width = row.get("energy_uncertainty_j")
    else:
        half_width = None if row.get("pace_lost_s") is None else PACE_SLACK_S
    return half_width / row[name] if half_width is not None and row[name] else 0.0
