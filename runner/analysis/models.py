"""How models compare: each at the operating point where it needs the least energy, on whatever board it ran.

Rows of `operating_points.OPERATING_POINTS` enter, `MODEL_COMPARISONS` leave. Next: display.
"""

import polars as pl

from runner.analysis.intervals import BOARD_SPREAD

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
ratio_low, ratio_high: its 95 % interval, of two independent means; widened by `BOARD_SPREAD` unless `on_same_board`.
    Null where either mean has none.
"""
_GROUP = ("task", "request_kind", "concurrency")
_ENERGY = "joules_per_request"


def compare_models(points: pl.DataFrame) -> pl.DataFrame:
    """Compare the models that answered the same task with as many requests in flight.

    Args:
        points: [num_points] rows of `operating_points.OPERATING_POINTS`.
    Returns: rows of `MODEL_COMPARISONS`, none for the reference itself; by task, concurrency and ratio.
    """
    least = points.filter("is_least_energy", pl.col(_ENERGY) > 0).with_columns(
        half_width=(pl.col(f"{_ENERGY}_high") / pl.col(f"{_ENERGY}_low")).log() / 2,
        board=pl.col("gpu_uuids").list.join(" "),
    )
    reference = (
        least.sort(_ENERGY)
        .group_by(_GROUP, maintain_order=True)
        .first()
        .select(*_GROUP, pl.col("model", "board", "half_width", _ENERGY).name.suffix("@0"))
    )
    on_same_board = pl.col("board") == pl.col("board@0")
    half_width = (
        pl.col("half_width") ** 2
        + pl.col("half_width@0") ** 2
        + pl.when(on_same_board).then(0.0).otherwise(BOARD_SPREAD**2)
    ).sqrt()
    ratio = pl.col(_ENERGY) / pl.col(f"{_ENERGY}@0")
    return (
        least.join(reference, on=_GROUP)
        .filter(pl.col("model") != pl.col("model@0"))
        .with_columns(
            reference_model=pl.col("model@0"),
            ratio=ratio,
            ratio_low=ratio * (-half_width).exp(),
            ratio_high=ratio * half_width.exp(),
            on_same_board=on_same_board,
        )
        .select(*MODEL_COMPARISONS)
        .sort("task", "concurrency", "ratio")
    )
