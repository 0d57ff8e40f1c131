"""Did the GPU stay the same through a block? Its sentinels say so: default-clock trials before, between and after.

Rows of `tables.TRIALS` enter; the same rows leave, those between two sentinels that differ with a verdict more.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import hypot
from typing import Any

import polars as pl

MAX_DRIFT = 0.02
"""As far apart as two sources of one trial may be: what drifted by less is lost in the measurement."""

PACE_SLACK_S = 0.1
"""Steps of a real engine may trail the simulated GPU's by so much before it counts as lost (`inference.pace`): at the
end of a window that is time that no GPU took."""

_GPU_AND_BLOCK = ("block_id", "gpu")
_MEASURED = (
    "energy_j",
    "energy_uncertainty_j",
    "duration_s",
    "pace_lost_s",
    "request_kind",
    "num_output_tokens",
    "num_prompt_tokens",
)


def mark_sentinel_drift(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the trials, `sentinel_drift` among the verdicts of those that a drift may have touched.

    When two neighbouring sentinels of a block on one GPU differ, the trials between them and the later sentinel carry
    it. Neighbours are neighbours in time; a sentinel with a verdict of its own tells nothing, its retry may.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, in any order.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    tells = pl.col("is_sentinel") & (pl.col("status") == "ok") & (pl.col("verdicts").list.len() == 0)
    placed = trials.with_row_index("place").with_columns(gpu=pl.col("gpu_uuids").list.first()).sort("start_ns")
    sentinels = placed.filter(tells).select("place", *_GPU_AND_BLOCK, *_MEASURED)
    drifted = [
        after["place"]
        for _, group in sentinels.group_by(_GPU_AND_BLOCK, maintain_order=True)
        for before, after in pairwise(group.to_dicts())
        if describe_drift(before, after)
    ]
    if not drifted:
        return trials
    # Each trial is judged by the next sentinel that tells.
    is_touched = pl.when(tells).then(pl.col("place").is_in(drifted)).backward_fill().over(_GPU_AND_BLOCK)
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
    """Return by how much a sentinel differs from the one before it, where that is more than may be; None otherwise.

    Energy and time are compared per token, since answers of natural length differ from one time to the next without
    any drift. A difference that lies within the two energies' own uncertainty, or within what pacing leaves open of the
    two times, is none.
    """
    changes = []
    for name, what in (("energy_j", "energy"), ("duration_s", "time")):
        old, new = _per_token(before, name), _per_token(after, name)
        if not old or not new:
            continue
        doubt = hypot(_doubt(before, name), _doubt(after, name))
        if abs(new / old - 1) > max(MAX_DRIFT, doubt):
            changes.append(f"{what} per token {new / old - 1:+.1%}")
    return ", ".join(changes) or None


def _per_token(row: Mapping[str, Any], name: str) -> float | None:
    """A quantity per output token, per prompt token where nothing is generated."""
    count = row["num_output_tokens"] if row["request_kind"] == "generate" else row["num_prompt_tokens"]
    return row[name] / count if row[name] is not None and count else None


def _doubt(row: Mapping[str, Any], name: str) -> float:
    """How much of a quantity is open, relative to it; 0 where that is not known."""
    if name == "energy_j":
        half_width = row.get("energy_uncertainty_j")
    else:
        half_width = None if row.get("pace_lost_s") is None else PACE_SLACK_S
    return half_width / row[name] if half_width is not None and row[name] else 0.0
