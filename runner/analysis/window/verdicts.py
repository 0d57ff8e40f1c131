"""Verdicts: reason codes for why a trial's number should not be trusted. A row and what was seen enter; codes leave.

Each code is described once, here; docs/measurement.md says how the limits were chosen. `drift.py` adds the one that
takes several trials to see.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Verdict = Literal[
    "window_too_short",
    "trace_gap",
    "edge_uncovered",
    "counter_backwards",
    "energy_unknown",
    "sources_disagree",
    "clock_not_held",
    "power_capped",
    "thermal_throttled",
    "temperature_drift",
    "limit_reverted",
    "foreign_process",
    "memory_left_behind",
    "prefix_cache_not_reset",
    "concurrency_not_reached",
    "pace_overrun",
    "requests_failed",
    "sentinel_drift",
]

VERDICTS: dict[Verdict, str] = {
    "window_too_short": "the window was too short for its energy source: 100 updates, 20 averages of a slow one",
    "trace_gap": "power samples are missing inside the window",
    "edge_uncovered": "the power trace does not reach over both edges of the window",
    "counter_backwards": "the energy counter went backwards: the driver or the GPU was restarted meanwhile",
    "energy_unknown": "neither power readings nor an energy counter that moved",
    "sources_disagree": "power trace and energy counter differ by more than 2 % over the same interval",
    "clock_not_held": "the clock that ran is not the clock that was asked for",
    "power_capped": "the power limit overruled the clock that was asked for",
    "thermal_throttled": "the GPU slowed down because it was too hot",
    "temperature_drift": "the GPU's temperature changed too much inside the window",
    "limit_reverted": "the power limit at the end was not the one that had been set, or the one at the start",
    "foreign_process": "a process that is not ours was on the GPU",
    "memory_left_behind": "the engine before this one had ended and its memory was still held",
    "prefix_cache_not_reset": "prompts were answered from a prefix cache that the engine refused to forget",
    "concurrency_not_reached": "fewer requests were in flight than asked for",
    "pace_overrun": "the real engine was slower than the simulated GPU that paces it",
    "requests_failed": "some requests failed, so the work was not the work that was asked for",
    "sentinel_drift": "the sentinels before and after this trial differ by more than 2 %",
}
assert set(VERDICTS) == set(get_args(Verdict))

RETRIED: frozenset[Verdict] = frozenset(
    {
        "trace_gap",
        "edge_uncovered",
        "counter_backwards",
        "sources_disagree",
        "clock_not_held",
        "thermal_throttled",
        "temperature_drift",
        "limit_reverted",
        "foreign_process",
        "prefix_cache_not_reset",
        "pace_overrun",
    }
)
"""What another measurement may find gone. The rest follows from what was asked for or what the GPU lacks, stays as
long as the engine (memory_left_behind), or is seen only when the run is over (sentinel_drift)."""

MAX_DISAGREEMENT = 0.02
MAX_CLOCK_DEVIATION = 0.02
"""Share of the clock asked for: more than one step of 15 MHz from 750 MHz on."""
MAX_CAPPED_FRACTION = 0.05
MIN_CONCURRENCY_SHARE = 0.8
"""Of the concurrency asked for, in the mean over the whole window with its ramp and its drain."""
MAX_PACE_LOST_SHARE = 0.01
MAX_THERMAL_SHARE = 0.01
"""Of the window, by the GPU's counter or by its event reasons: a cool GPU spends none."""
MAX_TEMPERATURE_CHANGE_C = 30.0
"""More than the step from the coolest operating point to the hottest makes, however long the window: the GPU began
cold, its cooling failed, or somebody else heats it."""
MAX_LIMIT_CHANGE_W = 1.0
"""GPUs round a limit; no limit that differs by so little makes a difference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was seen of a trial and no column holds."""

    disagreement: float | None
    """(trace - counter) / counter over one interval; None where it cannot be told."""
    source_problems: Collection[Verdict]
    """Why the trace could not be integrated, the counter not be used, or neither tell so short a window."""
    capped_fraction: float | None
    """Share of the window's state readings with the power-cap bit."""
    thermal_fraction: float | None
    """Share of them with a thermal bit."""
    power_limit_w_start: float | None
    """In force when the window opened."""
    foreign_process_ids: frozenset[int]
    """On the GPU at either edge, and not our engine's; empty where the driver does not say."""
    memory_left_behind: bool
    prefix_cache_reset: bool
    """Whether the engine forgot its prefix cache before the window."""


def can_retry(verdicts: Collection[str]) -> bool:
    """Return whether measuring a trial once more may give a sound one: every verdict on it may go away."""
    return bool(verdicts) and RETRIED.issuperset(verdicts)


def judge(row: Mapping[str, Any], evidence: Evidence) -> list[Verdict]:
    """Return the verdicts on one trial, in the order of `VERDICTS`; `row` holds the columns of `tables.TRIALS` so far.

    A reading that is missing convicts nobody, but for a clock or a concurrency that was asked for and never seen.
    """
    duration_s: float = row["duration_s"]
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
        and (evidence.capped_fraction or 0.0) > MAX_CAPPED_FRACTION
    )
    throttled = (evidence.thermal_fraction or 0.0) > MAX_THERMAL_SHARE
    throttled |= (row["throttled_thermal_s"] or 0.0) > MAX_THERMAL_SHARE * duration_s
    start_c, end_c = row["temperature_c_start"], row["temperature_c_end"]
    limit_w, asked_limit_w = row["power_limit_w"], row["power_limit_w_requested"]
    due_limit_w = evidence.power_limit_w_start if asked_limit_w is None else asked_limit_w
    concurrency_mean = row["concurrency_mean"]
    found: dict[Verdict, bool] = {
        "window_too_short": "window_too_short" in evidence.source_problems,
        "trace_gap": "trace_gap" in evidence.source_problems,
        "edge_uncovered": "edge_uncovered" in evidence.source_problems,
        "counter_backwards": "counter_backwards" in evidence.source_problems,
        "energy_unknown": "energy_unknown" in evidence.source_problems,
        "sources_disagree": abs(evidence.disagreement or 0.0) > MAX_DISAGREEMENT,
        "clock_not_held": sm_off or memory_off,
        "power_capped": capped,
        "thermal_throttled": throttled,
        "temperature_drift": start_c is not None and abs(end_c - start_c) > MAX_TEMPERATURE_CHANGE_C,
        "limit_reverted": limit_w is not None
        and due_limit_w is not None
        and abs(limit_w - due_limit_w) > MAX_LIMIT_CHANGE_W,
        "foreign_process": bool(evidence.foreign_process_ids),
        "memory_left_behind": evidence.memory_left_behind,
        # Where no prompt was found in the cache, keeping it has changed nothing; null: the engine does not say.
        "prefix_cache_not_reset": not evidence.prefix_cache_reset and row["num_cached_tokens"] != 0,
        "concurrency_not_reached": concurrency_mean is None
        or concurrency_mean < MIN_CONCURRENCY_SHARE * row["concurrency"],
        "pace_overrun": (row["pace_lost_s"] or 0.0) > MAX_PACE_LOST_SHARE * duration_s,
        "requests_failed": row["num_failed_requests"] > 0,
    }
    return [code for code in VERDICTS if found.get(code)]
