"""A trial's power trace, small enough to draw, with the stretches of prefill and decoding.

Rows of `tables.POWER` and `tables.REQUESTS` enter, points and stretches of a plot leave. Next: display.
"""

from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

MAX_POINTS = 300
"""A plot is about 300 pixels wide."""
NUM_BINS = 200
"""Bins of a window. A shorter stretch cannot be seen in a plot."""
_INSTANTS_PER_BIN = 16


def thin_power(power: pl.DataFrame, start_ns: int) -> pl.DataFrame:
    """Return a trace as [num_points] rows of time_s (from the window's start), mean_w, least_w and greatest_w.

    If there are more than `MAX_POINTS` readings, each point stands for several that follow each other. No peak is lost.
    """
    trace = power.drop_nulls("power_w").sort("time_ns").with_row_index("place")
    if trace.height > MAX_POINTS:
        trace = trace.with_columns(pl.col("place").cast(pl.Int64) * MAX_POINTS // trace.height)
    return (
        trace.group_by("place", maintain_order=True)
        .agg(
            time_s=(pl.col("time_ns") - start_ns).mean() * 1e-9,
            mean_w=pl.col("power_w").mean(),
            least_w=pl.col("power_w").min(),
            greatest_w=pl.col("power_w").max(),
        )
        .drop("place")
    )


def find_phases(requests: pl.DataFrame, start_ns: int, end_ns: int) -> pl.DataFrame:
    """Return what the engine did in a window, in stretches: phase (prefill, decode, both), start_s and end_s.

    A request is in prefill until its first token, and decodes until its last one. A stretch has the name of the phase
    that took at least half of it. Stretches without a request are left out.
    """
    bin_ns = (end_ns - start_ns) / NUM_BINS
    instants = start_ns + (np.arange(NUM_BINS * _INSTANTS_PER_BIN) + 0.5) / _INSTANTS_PER_BIN * bin_ns
    known = requests.drop_nulls(["scheduled_ns", "first_token_ns", "last_token_ns"])
    prefill = _is_going_on(known["scheduled_ns"], known["first_token_ns"], instants)
    decode = _is_going_on(known["first_token_ns"], known["last_token_ns"], instants)
    names = {(True, False): "prefill", (False, True): "decode", (True, True): "both"}
    of_bin = [names.get((bool(p), bool(d))) for p, d in zip(prefill, decode, strict=True)]
    rows, place = [], 0
    for phase, group in groupby(of_bin):
        length = len(list(group))
        if phase is not None:
            rows.append((phase, place * bin_ns * 1e-9, (place + length) * bin_ns * 1e-9))
        place += length
    return pl.DataFrame(rows, schema={"phase": pl.String, "start_s": pl.Float64, "end_s": pl.Float64}, orient="row")


def _is_going_on(starts_ns: pl.Series, ends_ns: pl.Series, instants_ns: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [NUM_BINS] whether a request is in the phase for at least half of each bin.

    Args:
        starts_ns, ends_ns: of the requests' phase.
        instants_ns: evenly spaced instants, the same number in each bin.
    """
    num_begun = np.searchsorted(np.sort(starts_ns.to_numpy()), instants_ns, side="right")
    num_ended = np.searchsorted(np.sort(ends_ns.to_numpy()), instants_ns, side="right")
    return np.asarray((num_begun > num_ended).reshape(NUM_BINS, -1).mean(axis=1) >= 0.5)
