"""What bound an operating point: why more of one thing would have made it faster, and more of another would not.

The GPU's activity and its throttling enter, a word for each row leaves. docs/reading-results.md explains the words.
"""

import polars as pl

MIN_CAPPED = 0.5
"""Share of the window in which the power cap held the clock down."""
MIN_ACTIVE = 0.5
"""Share of the peak from which tensor cores or memory count as what bounds. Kernels seldom reach more than 0.75."""
MIN_SM_ACTIVE = 0.5
"""Below it the GPU waits for most of the time: for its host, or for requests."""

BOUNDS = ("power cap", "tensor cores", "memory bandwidth", "host", "no single part")


def find_bound() -> pl.Expr:
    """Return the column `bound_by` from power_capped_fraction and the three *_active_fraction; null where unknown.

    The power cap comes first, since it holds down the clock whatever else is busy.
    """
    tensor, dram, sm = (pl.col(f"{unit}_active_fraction") for unit in ("tensor", "dram", "sm"))
    busiest = pl.max_horizontal(tensor, dram)
    power_cap, tensor_cores, bandwidth, host, none = (pl.lit(bound) for bound in BOUNDS)
    return (
        pl.when(tensor.is_null() | dram.is_null() | sm.is_null())
        .then(None)
        .when(pl.col("power_capped_fraction") >= MIN_CAPPED)
        .then(power_cap)
        .when(busiest >= MIN_ACTIVE)
        .then(pl.when(tensor >= dram).then(tensor_cores).otherwise(bandwidth))
        .when(sm < MIN_SM_ACTIVE)
        .then(host)
        .otherwise(none)
    )
