"""Verdicts: reason codes for why a trial's number should not be trusted. A row and what was seen enter; codes leave.

Each code is described once, here; docs/measurement.md says how the limits were chosen.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

Verdict = Literal[
    "window_too_short",
    "trace_gap",
    "edge_uncovered",
    "counter_backwards",
    "sources_disagree",
    "clock_not_held",
    "power_capped",
    "concurrency_not_reached",
    "pace_overrun",
    "requests_failed",
]

VERDICTS: dict[Verdict, str] = {
    "window_too_short": "the window was shorter than 100 updates of its power source (2 s trace, 10 s counter)",
    "trace_gap": "power samples are missing inside the window",
    "edge_uncovered": "the power trace does not reach over both edges of the window",
    "counter_backwards": "the energy counter went backwards: the driver or the board was restarted meanwhile",
    "sources_disagree": "power trace and energy counter differ by more than 2 % over the same interval",
    "clock_not_held": "the clock that ran is not the clock that was asked for",
    "power_capped": "the power limit overruled the clock that was asked for",
    "concurrency_not_reached": "fewer requests were in flight than asked for",
    "pace_overrun": "the real engine was slower than the simulated board that paces it",
    "requests_failed": "some requests failed, so the work was not the work that was asked for",
}
assert set(VERDICTS) == set(get_args(Verdict))

MIN_WINDOW_S = {"trace": 2.0, "counter": 10.0}
MAX_DISAGREEMENT = 0.02
MAX_CLOCK_DEVIATION = 0.02
"""Share of the clock asked for: more than one step of 15 MHz from 750 MHz on."""
MAX_CAPPED_FRACTION = 0.05
MIN_CONCURRENCY_SHARE = 0.8
"""Of the concurrency asked for, in the mean over the whole window with its ramp and its drain."""
MAX_PACE_LOST_SHARE = 0.01


def judge(
    row: Mapping[str, Any],
    *,
    disagreement: float | None,
    source_problems: Collection[Verdict],
    capped_fraction: float | None,
) -> list[Verdict]:
    """Return the verdicts on one trial, in the order of `VERDICTS`.

    Args:
        row: the columns of `tables.TRIALS` known so far.
        disagreement: (trace - counter) / counter over one interval; None where it cannot be told.
        source_problems: why the trace could not be integrated, or the counter not be used, if they could not.
        capped_fraction: share of the window's state readings with the power-cap bit.
    """
    duration_s: float = row["duration_s"]
    source = row["energy_source"]
    asked_mhz, ran_mhz, slow_mhz = row["sm_clock_mhz_requested"], row["sm_clock_mhz"], row["sm_clock_mhz_p05"]
    asked_memory_mhz, ran_memory_mhz = row["mem_clock_mhz_requested"], row["mem_clock_mhz"]
    sm_off = asked_mhz is not None and (
        ran_mhz is None
        or abs(ran_mhz - asked_mhz) > MAX_CLOCK_DEVIATION * asked_mhz
        or slow_mhz < (1 - 3 * MAX_CLOCK_DEVIATION) * asked_mhz
    )
    memory_off = asked_memory_mhz is not None and (
        ran_memory_mhz is None or abs(ran_memory_mhz - asked_memory_mhz) > MAX_CLOCK_DEVIATION * asked_memory_mhz
    )
    capped = (
        asked_mhz is not None
        and row["power_limit_w_requested"] is None
        and capped_fraction is not None
        and capped_fraction > MAX_CAPPED_FRACTION
    )
    concurrency_mean = row["concurrency_mean"]
    found: dict[Verdict, bool] = {
        "window_too_short": source is not None and duration_s < MIN_WINDOW_S[source],
        "trace_gap": "trace_gap" in source_problems,
        "edge_uncovered": "edge_uncovered" in source_problems,
        "counter_backwards": "counter_backwards" in source_problems,
        "sources_disagree": disagreement is not None and abs(disagreement) > MAX_DISAGREEMENT,
        "clock_not_held": sm_off or memory_off,
        "power_capped": capped,
        "concurrency_not_reached": concurrency_mean is None
        or concurrency_mean < MIN_CONCURRENCY_SHARE * row["concurrency"],
        "pace_overrun": (row["pace_lost_s"] or 0.0) > MAX_PACE_LOST_SHARE * duration_s,
        "requests_failed": row["num_failed_requests"] > 0,
    }
    return [code for code in VERDICTS if found[code]]
