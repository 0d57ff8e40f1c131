"""How models compare, and how many requests in flight do: each at its own best operating point, on whatever GPU.

Rows of `operating_points.OPERATING_POINTS` enter, `MODEL_COMPARISONS` and `CONCURRENCY_COMPARISONS` leave. Next: study.
"""

import polars as pl

from runner.analysis.run.intervals import GPU_SPREAD

MODEL_COMPARISONS: dict[str, pl.DataType] = {
    "task": pl.String(),
    "request_kind": pl.String(),
    "concurrency": pl.Int64(),
    "model": pl.String(),
    "reference_model": pl.String(),
    "ratio": pl.Float64(),
    "ratio_low": pl.Float64(),
    "ratio_high": pl.Float64(),
    "on_same_board": pl.Boolean(),
}
"""What `compare_models` returns.

ratio: joules per request over the reference model's, which needs the fewest. Per request and not per token: models cut
    one text into different tokens.
ratio_low, ratio_high: its 95 % interval, of two independent means; widened by `GPU_SPREAD` unless `on_same_board`.
    Null where either mean has none.
"""
CONCURRENCY_COMPARISONS: dict[str, pl.DataType] = {
    "model": pl.String(),
    "task": pl.String(),
    "request_kind": pl.String(),
    "concurrency": pl.Int64(),
    "reference_concurrency": pl.Int64(),
    "ratio": pl.Float64(),
    "ratio_low": pl.Float64(),
    "ratio_high": pl.Float64(),
    "on_same_board": pl.Boolean(),
}
"""What `compare_concurrencies` returns: as `MODEL_COMPARISONS`, by joules per token; the reference needs the fewest."""


def compare_models(points: pl.DataFrame) -> pl.DataFrame:
    """Compare the models that answered the same task with as many requests in flight.

    Args:
        points: [num_points] rows of `operating_points.OPERATING_POINTS`.
    Returns: rows of `MODEL_COMPARISONS`, none for the reference itself; by task, concurrency and ratio.
    """
    least = points.filter("is_least_energy")
    compared = _compare(least, ("task", "request_kind", "concurrency"), "model", "joules_per_request")
    return compared.select(*MODEL_COMPARISONS).sort("task", "concurrency", "ratio")


def compare_concurrencies(chosen: pl.DataFrame) -> pl.DataFrame:
    """Compare how many requests are kept in flight, for each model and task.

    Args:
        chosen: rows of `operating_points.OPERATING_POINTS`, the one of each block that stands for it.
    Returns: rows of `CONCURRENCY_COMPARISONS`, none for the reference itself; by model, task and ratio.
    """
    compared = _compare(chosen, ("model", "task", "request_kind"), "concurrency", "joules_per_token")
    return compared.select(*CONCURRENCY_COMPARISONS).sort("model", "task", "ratio")


def _compare(chosen: pl.DataFrame, group: tuple[str, ...], subject: str, energy: str) -> pl.DataFrame:
    """Compare the subjects of each group with the one of least energy, as independent means."""
    known = chosen.filter(pl.col(energy) > 0).with_columns(
        half_width=(pl.col(f"{energy}_high") / pl.col(f"{energy}_low")).log() / 2,
        gpu=pl.col("gpu_uuids").list.join(" "),
    )
    reference = (
        known.sort(energy)
        .group_by(group, maintain_order=True)
        .first()
        .select(*group, pl.col(subject, "gpu", "half_width", energy).name.suffix("@0"))
    )
    on_same_board = pl.col("gpu") == pl.col("gpu@0")
    half_width = (
        pl.col("half_width") ** 2
        + pl.col("half_width@0") ** 2
        + pl.when(on_same_board).then(0.0).otherwise(GPU_SPREAD**2)
    ).sqrt()
    ratio = pl.col(energy) / pl.col(f"{energy}@0")
    return (
        known.join(reference, on=group)
        .filter(pl.col(subject) != pl.col(f"{subject}@0"))
        .with_columns(
            pl.col(f"{subject}@0").alias(f"reference_{subject}"),
            ratio=ratio,
            ratio_low=ratio * (-half_width).exp(),
            ratio_high=ratio * half_width.exp(),
            on_same_board=on_same_board,
        )
    )
