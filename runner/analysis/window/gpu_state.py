"""What the GPU did in a trial's window: clocks, throttling, temperature, limit, processes.

A `Measurement` enters; columns of `tables.TRIALS`, and what a verdict needs beside them, leave. Next: `validity.py`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from runner.results.measurement import Measurement
from runner.spec.request import Step

POWER_CAP_BIT = 0x4
THERMAL_BITS = 0x20 | 0x40
THROTTLE_BITS = POWER_CAP_BIT | 0x8 | THERMAL_BITS | 0x80
"""Software power cap, hardware slowdown, software and hardware thermal slowdown, power brake (nvml.h)."""
MAX_UNSEEN_S = 1.0
"""Ten readings in a row that failed: what a GPU did for longer than that, nobody can say."""


def describe_gpu_state(measurement: Measurement) -> dict[str, Any]:
    """Return the row's columns about the GPU; null where the GPU, or its driver, does not say."""
    clock_readings = _seen_throughout(measurement, "sm_clock_mhz")
    clocks = clock_readings["sm_clock_mhz"]
    asked_mhz = measurement.identity.sm_clock_mhz_requested
    temperatures = _seen_throughout(measurement, "temperature_c")["temperature_c"]
    return {
        **_describe_phase_clocks(clock_readings, measurement.steps),
        "sm_clock_mhz": clocks.median(),
        "sm_clock_mhz_p05": clocks.quantile(0.05, "linear"),
        "sm_clock_below_fraction": (clocks < asked_mhz).mean() if asked_mhz is not None else None,
        "mem_clock_mhz": _seen_throughout(measurement, "mem_clock_mhz")["mem_clock_mhz"].median(),
        "throttled_fraction": event_fraction(_seen_throughout(measurement, "event_reasons"), THROTTLE_BITS),
        "throttled_power_s": _elapsed_s(measurement, "throttled_power_s"),
        "throttled_thermal_s": _elapsed_s(measurement, "throttled_thermal_s"),
        "throttled_other_s": _elapsed_s(measurement, "throttled_other_s"),
        "settle_s": measurement.settle_s,
        "power_limit_w": measurement.edge_end.power_limit_w,
        "persistence_mode": measurement.persistence_mode,
        "temperature_c_start": temperatures[0] if len(temperatures) else None,
        "temperature_c_end": temperatures[-1] if len(temperatures) else None,
    }


def _describe_phase_clocks(readings: pl.DataFrame, steps: Sequence[Step]) -> dict[str, float | None]:
    """Mean SM clock while mostly prompts were computed, and while nothing was but decoding; null where not seen.

    Under a power limit they differ with no lock set: prefill draws more, and the GPU gives way.
    """
    step_ends_ns = np.array([step.time_ns for step in steps], dtype=np.int64)
    kinds = np.array([_kind_of_step(step) for step in steps] + [None])  # after the last step: none
    kind_of_reading = kinds[np.searchsorted(step_ends_ns, readings["time_ns"].to_numpy())]
    clocks_mhz = readings["sm_clock_mhz"].to_numpy()
    columns = {}
    for kind in ("prefill", "decode"):
        seen_mhz = clocks_mhz[kind_of_reading == kind]
        columns[f"{kind}_sm_clock_mhz"] = float(np.mean(seen_mhz)) if len(seen_mhz) else None
    return columns


def _kind_of_step(step: Step) -> str | None:
    if step.num_prefill_tokens > step.num_decode_tokens:
        return "prefill"
    return "decode" if step.num_prefill_tokens == 0 else None


def readings_in_window(measurement: Measurement) -> pl.DataFrame:
    """Return [num_readings] rows of `tables.POWER`: what was read between the window's edges."""
    return measurement.power.filter(pl.col("time_ns").is_between(measurement.start_ns, measurement.end_ns))


def _seen_throughout(measurement: Measurement, name: str) -> pl.DataFrame:
    """Return the window's rows that hold a reading, by time; none where more than `MAX_UNSEEN_S` went unseen.

    What was seen of half a window would else stand for the whole, and the last temperature before a sensor fell silent
    for that at the end.
    """
    known = readings_in_window(measurement).drop_nulls(name).sort("time_ns")
    instants_ns = [measurement.start_ns, *known["time_ns"], measurement.end_ns]
    unseen_ns = max(later - earlier for earlier, later in pairwise(instants_ns))
    return known.clear() if unseen_ns > MAX_UNSEEN_S * 1e9 else known


def event_fraction(readings: pl.DataFrame, bits: int) -> float | None:
    """Return the share of the state readings that have any of some event-reason bits; None without a reading."""
    reasons = readings["event_reasons"].drop_nulls().to_numpy()
    return float(np.mean((reasons & bits) != 0)) if len(reasons) else None


def find_foreign_processes(measurement: Measurement) -> frozenset[int]:
    """Return the processes seen on the GPU that are not our engine's; empty where the driver does not say."""
    if measurement.engine_process_ids is None:
        return frozenset()
    seen = (edge.process_ids or frozenset() for edge in (measurement.edge_start, measurement.edge_end))
    return frozenset().union(*seen) - measurement.engine_process_ids


def _elapsed_s(measurement: Measurement, name: str) -> float | None:
    """What a cumulative counter gained from edge to edge; None where it is unknown, or was reset meanwhile."""
    start_s: float | None = getattr(measurement.edge_start, name)
    end_s: float | None = getattr(measurement.edge_end, name)
    return None if start_s is None or end_s is None or end_s < start_s else end_s - start_s
