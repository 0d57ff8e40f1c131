"""Marks rows that are faster than their clock allows, since imported tables hold no readings of the clock that ran.

Rows of `tables.TRIALS` enter; the same rows leave, the impossible ones with a verdict.
"""

import polars as pl

from runner.analysis.run.operating_points import BLOCK

TOLERANCE = 0.05
"""Two throughputs of one table vary by less. A clock that was not held differs by far more."""


def mark_impossible_clocks(trials: pl.DataFrame) -> pl.DataFrame:
    """Add `clock_not_held` to the verdicts of the trials that are faster than their clock allows.

    At one memory clock no work speeds up by more than the SM clock does: what does not wait for the SMs takes as long
    as before. So each row is compared with the last possible row at a lower clock. A row that gains more did not run at
    the clocks that it states. A clock that slipped downwards cannot be seen in this way.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    placed = trials.with_row_index("place")
    known = placed.drop_nulls(["sm_clock_mhz", "output_tokens_per_s"]).sort("sm_clock_mhz")
    impossible = []
    for _, group in known.group_by(*BLOCK, "mem_clock_mhz", "power_limit_w", maintain_order=True):
        last_clock, last_rate = None, 0.0
        for place, clock, rate in group.select("place", "sm_clock_mhz", "output_tokens_per_s").iter_rows():
            if last_clock is not None and rate > last_rate * clock / last_clock * (1 + TOLERANCE):
                impossible.append(place)
            else:
                last_clock, last_rate = clock, rate
    return placed.with_columns(
        verdicts=pl.when(pl.col("place").is_in(impossible))
        .then(pl.concat_list("verdicts", pl.lit(["clock_not_held"])))
        .otherwise("verdicts")
    ).select(trials.columns)
