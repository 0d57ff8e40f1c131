"""Comparisons of models under one load, and of loads of one model, each at its own best operating point.

Rows of `operating_points.OPERATING_POINTS` enter, `MODEL_COMPARISONS` and `LOAD_COMPARISONS` leave. Next: study.
"""

import polars as pl

from runner.analysis.run.intervals import GPU_SPREAD
from runner.results.tables import TRIALS
from runner.spec.load import LOAD_COLUMNS

MODEL_COMPARISONS: dict[str, pl.DataType] = {
    "task": pl.String(),
    "request_kind": pl.String(),
    **{name: TRIALS[name] for name in LOAD_COLUMNS},
    "model": pl.String(),
    "reference_model": pl.String(),
    "ratio": pl.Float64(),
    "ratio_low": pl.Float64(),
    "ratio_high": pl.Float64(),
    "on_same_board": pl.Boolean(),
}
"""What `compare_models` returns.

ratio: joules per request over the reference model's, which needs the fewest. It is per request, since models cut the
    same text into different tokens.
ratio_low, ratio_high: its 95 % interval, of two independent means; widened by `GPU_SPREAD` unless `on_same_board`.
    Null where either mean has no interval.
on_same_board: whether both were measured on the same GPU.
"""
LOAD_COMPARISONS: dict[str, pl.DataType] = {
    "model": pl.String(),
    "task": pl.String(),
    "request_kind": pl.String(),
    **{name: TRIALS[name] for name in LOAD_COLUMNS},
    **{f"reference_{name}": TRIALS[name] for name in LOAD_COLUMNS},
    "ratio": pl.Float64(),
    "ratio_low": pl.Float64(),
    "ratio_high": pl.Float64(),
    "on_same_board": pl.Boolean(),
}
"""What `compare_loads` returns: as `MODEL_COMPARISONS`, by joules per token. The reference needs the fewest."""


def compare_models(points: pl.DataFrame) -> pl.DataFrame:
    """Compare the models that answered the same task under the same load.

    Args:
        points: [num_points] rows of `operating_points.OPERATING_POINTS`.
    Returns: rows of `MODEL_COMPARISONS`, none for the reference itself; by task, load and ratio.
    """
    least = points.filter("is_least_energy")
    compared = _compare(least, ("task", "request_kind", *LOAD_COLUMNS), ("model",), "joules_per_request")
    return compared.select(*MODEL_COMPARISONS).sort("task", *LOAD_COLUMNS, "ratio")


def compare_loads(chosen: pl.DataFrame) -> pl.DataFrame:
    """Compare the closed loops of each model and task. Request rates are compared by `rates.py`.

    Args:
        chosen: rows of `operating_points.OPERATING_POINTS`: for each block the operating point that stands for it.
    Returns: rows of `LOAD_COMPARISONS`, none for the reference itself; by model, task and ratio.
    """
    closed = chosen.filter(pl.col("concurrency").is_not_null())
    compared = _compare(closed, ("model", "task", "request_kind"), LOAD_COLUMNS, "joules_per_token")
    return compared.select(*LOAD_COMPARISONS).sort("model", "task", "ratio")


def _compare(chosen: pl.DataFrame, group: tuple[str, ...], subject: tuple[str, ...], energy: str) -> pl.DataFrame:
    """Compare the subjects of each group with the one of least energy, as independent means.

    Args:
        group: columns whose values are the same for all that are compared.
        subject: columns that tell apart what is compared.
        energy: the column to compare by.
    """
    known = chosen.filter(pl.col(energy) > 0).with_columns(
        half_width=(pl.col(f"{energy}_high") / pl.col(f"{energy}_low")).log() / 2,
        gpu=pl.col("gpu_uuids").list.join(" "),
    )
    reference = (
        known.sort(energy)
        .group_by(group, maintain_order=True)
        .first()
        .select(*group, pl.col(*subject, "gpu", "half_width", energy).name.suffix("@0"))
    )
    on_same_board = pl.col("gpu") == pl.col("gpu@0")
    half_width = (
        pl.col("half_width") ** 2
        + pl.col("half_width@0") ** 2
        + pl.when(on_same_board).then(0.0).otherwise(GPU_SPREAD**2)
    ).sqrt()
    ratio = pl.col(energy) / pl.col(f"{energy}@0")
    return (
        known.join(reference, on=group, nulls_equal=True)
        .filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}@0")) for name in subject))
        .with_columns(
            *(pl.col(f"{name}@0").alias(f"reference_{name}") for name in subject),
            ratio=ratio,
            ratio_low=ratio * (-half_width).exp(),
            ratio_high=ratio * half_width.exp(),
            on_same_board=on_same_board,
        )
    )
