"""The Pareto front: models, loads and operating points that no other beats in energy, latency and quality at once.

Rows of `operating_points.OPERATING_POINTS` enter, `PARETO_POINTS` leave. Next: study.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.analysis.run.operating_points import OPERATING_POINTS, POINT
from runner.spec.load import LOAD_COLUMNS

_GROUP = ("task", "request_kind")
_TAKEN = (
    "gpu_name", "simulated", "is_default", "sm_clock_mhz", "token_kind", "joules_per_token", "joules_per_request",
    "latency_s_p50", "output_tokens_per_s", "quality", "quality_stderr", "quality_metric", "quality_higher_is_better",
)  # fmt: skip

PARETO_POINTS: dict[str, pl.DataType] = {
    **{name: OPERATING_POINTS[name] for name in (*_GROUP, "model", *LOAD_COLUMNS, *POINT, *_TAKEN)},
    "energy_j": pl.Float64(),
    "latency_s": pl.Float64(),
    "compared_quality": pl.Float64(),
    "compares_quality": pl.Boolean(),
    "is_on_front": pl.Boolean(),
}
"""What `find_front` returns.

energy_j, latency_s: what is compared: those of a request (p50), or of a token where a task's requests were not counted,
    as in published tables.
compared_quality: the score, or the default clock's if the two lie within two standard errors of each other. Otherwise
    the noise of the scores would put every clock on the front.
compares_quality: whether quality was compared. It is where every operating point of the task has a score, and no prompt
    was cut to fit one of several models (`common_samples` compares those).
is_on_front: no other operating point of the task, of any model, is as good in every respect and better in one.
"""


def find_front(points: pl.DataFrame) -> pl.DataFrame:
    """Mark what no other beats, task by task, over models, loads and operating points.

    Only means are compared. So of two that differ by less than their errors, one may beat the other.

    Args:
        points: [num_points] rows of `OPERATING_POINTS`; only sound ones are compared.
    Returns: the sound points that have an energy and a time, rows of `PARETO_POINTS`, sorted by task and energy.
    """
    compared = _add_objectives(points.filter("is_sound")).drop_nulls(["energy_j", "latency_s"])
    parts = [
        group.with_columns(is_on_front=pl.Series(_is_on_front(_costs(group)), dtype=pl.Boolean))
        for group in compared.partition_by(*_GROUP, maintain_order=True)
    ]
    front = pl.concat(parts) if parts else compared.with_columns(is_on_front=pl.lit(False))
    return front.select(pl.col(name).cast(dtype) for name, dtype in PARETO_POINTS.items()).sort(
        *_GROUP, "energy_j", "latency_s"
    )


def _add_objectives(points: pl.DataFrame) -> pl.DataFrame:
    has_requests = (pl.col("joules_per_request").is_not_null() & pl.col("latency_s_p50").is_not_null()).all()
    by_request = has_requests.over(*_GROUP)
    has_error = pl.col("quality_difference_stderr").is_not_null()
    is_alike = has_error & (pl.col("quality_difference").abs() <= 2 * pl.col("quality_difference_stderr"))
    of_default = pl.col("quality") - pl.col("quality_difference")
    has_quality = pl.col("quality").is_not_null().all()
    is_one_model = pl.col("model").n_unique() == 1
    is_uncut = (pl.col("truncated_fraction").fill_null(0.0) == 0).all()
    return points.with_columns(
        energy_j=pl.when(by_request).then("joules_per_request").otherwise("joules_per_token"),
        latency_s=pl.when(by_request).then("latency_s_p50").otherwise(1 / pl.col("output_tokens_per_s")),
        compared_quality=pl.when(is_alike).then(of_default).otherwise("quality"),
        compares_quality=(has_quality & (is_one_model | is_uncut)).over(*_GROUP),
    )


def _costs(group: pl.DataFrame) -> NDArray[np.float64]:
    """[num_points, num_objectives], less is better."""
    columns: list[Any] = [group["energy_j"], group["latency_s"]]
    if group["compares_quality"].all():
        higher_is_better = group["quality_higher_is_better"].fill_null(True).all()
        columns.append(group["compared_quality"] * (-1.0 if higher_is_better else 1.0))
    return np.column_stack([column.to_numpy() for column in columns])


def _is_on_front(costs: NDArray[np.float64]) -> list[bool]:
    """Return which points are on the front: none is as good in every objective and better in one."""
    return [not ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any() for cost in costs]
