"""What the GPU did in a trial's window: clocks, throttling, temperature, power limit.

A `Measurement` enters, a `GpuState` leaves. Next: verdicts, and the trial's row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from runner.analysis.energy.trace import readings_in_window
from runner.results.measurement import Measurement
from runner.spec.request import Step
from runner.spec.throttle import ThrottleReason

THERMAL_REASONS = ThrottleReason.SOFTWARE_THERMAL | ThrottleReason.HARDWARE_THERMAL
THROTTLE_REASONS = (
    ThrottleReason.POWER_CAP | ThrottleReason.HARDWARE_SLOWDOWN | THERMAL_REASONS | ThrottleReason.POWER_BRAKE
)
"""What lowers a clock below the one that the GPU was meant to run at."""
MAX_UNSEEN_S = 1.0
"""Ten failed readings in a row. Where the readings leave out more than this, the GPU's state is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuState:
    """The columns of `tables.TRIALS` about the GPU; None where the GPU or its driver does not report a value."""

    sm_clock_mhz: float | None
    sm_clock_mhz_p05: float | None
    sm_clock_below_fraction: float | None
    prefill_sm_clock_mhz: float | None
    decode_sm_clock_mhz: float | None
    mem_clock_mhz: float | None
    throttled_fraction: float | None
    throttled_power_s: float | None
    throttled_thermal_s: float | None
    throttled_other_s: float | None
    settle_s: float | None
    power_limit_w: float | None
    persistence_mode: bool | None
    temperature_c_start: float | None
    temperature_c_end: float | None


def describe_gpu_state(measurement: Measurement) -> GpuState:
    """Return what the GPU did in the window."""
    clock_readings = _seen_throughout(measurement, "sm_clock_mhz")
    if measurement.identity.operating_point.sm_clock_is_ceiling:
        clock_readings = _under_load(clock_readings)
    clocks = clock_readings["sm_clock_mhz"]
    asked_mhz = measurement.identity.operating_point.sm_clock_mhz
    temperatures = _seen_throughout(measurement, "temperature_c")["temperature_c"]
    return GpuState(
        sm_clock_mhz=_as_float(clocks.median()),
        sm_clock_mhz_p05=_as_float(clocks.quantile(0.05, "linear")),
        sm_clock_below_fraction=_as_float((clocks < asked_mhz).mean()) if asked_mhz is not None else None,
        prefill_sm_clock_mhz=_mean_clock_mhz(clock_readings, measurement.steps, "prefill"),
        decode_sm_clock_mhz=_mean_clock_mhz(clock_readings, measurement.steps, "decode"),
        mem_clock_mhz=_as_float(_seen_throughout(measurement, "mem_clock_mhz")["mem_clock_mhz"].median()),
        throttled_fraction=throttled_share(_seen_throughout(measurement, "event_reasons"), THROTTLE_REASONS),
        throttled_power_s=_elapsed_s(measurement, "throttled_power_s"),
        throttled_thermal_s=_elapsed_s(measurement, "throttled_thermal_s"),
        throttled_other_s=_elapsed_s(measurement, "throttled_other_s"),
        settle_s=measurement.settle_s,
        power_limit_w=measurement.edge_end.power_limit_w,
        persistence_mode=measurement.persistence_mode,
        temperature_c_start=temperatures[0] if len(temperatures) else None,
        temperature_c_end=temperatures[-1] if len(temperatures) else None,
    )


def _under_load(readings: pl.DataFrame) -> pl.DataFrame:
    """Return the readings at which the GPU was not idle. Below a ceiling an idle GPU's clock may fall."""
    is_idle = pl.col("event_reasons").fill_null(0).cast(pl.Int64) & int(ThrottleReason.IDLE) != 0
    return readings.filter(~is_idle)


def throttled_share(readings: pl.DataFrame, reasons: ThrottleReason) -> float | None:
    """Return the share of the state readings that show any of some throttle reasons; None without a reading."""
    shown = readings["event_reasons"].drop_nulls().to_numpy()
    return float(np.mean((shown & int(reasons)) != 0)) if len(shown) else None


def _mean_clock_mhz(readings: pl.DataFrame, steps: Sequence[Step], phase: Literal["prefill", "decode"]) -> float | None:
    """Return the mean SM clock in the steps of one phase, in MHz; None where no reading falls into it.

    Under a power limit the two phases differ though no clock is locked: prefill draws more, so that its clock is lower.
    """
    step_ends_ns = np.array([step.time_ns for step in steps], dtype=np.int64)
    phases = np.array([_phase_of_step(step) for step in steps] + [None])  # readings after the last step have no phase
    phase_of_reading = phases[np.searchsorted(step_ends_ns, readings["time_ns"].to_numpy())]
    seen_mhz = readings["sm_clock_mhz"].to_numpy()[phase_of_reading == phase]
    return float(np.mean(seen_mhz)) if len(seen_mhz) else None


def _phase_of_step(step: Step) -> str | None:
    """Return "prefill" for a step of mostly prompt tokens, "decode" for one without any, else None."""
    if step.num_prefill_tokens > step.num_decode_tokens:
        return "prefill"
    return "decode" if step.num_prefill_tokens == 0 else None


def _seen_throughout(measurement: Measurement, name: str) -> pl.DataFrame:
    """Return the window's rows that hold a reading, by time; none where more than `MAX_UNSEEN_S` has no reading.

    Otherwise the readings of half a window would stand for the whole, and the last temperature before a sensor failed
    would stand for the one at the end.
    """
    known = readings_in_window(measurement).drop_nulls(name).sort("time_ns")
    instants_ns = [measurement.start_ns, *known["time_ns"], measurement.end_ns]
    unseen_ns = max(later - earlier for earlier, later in pairwise(instants_ns))
    return known.clear() if unseen_ns > MAX_UNSEEN_S * 1e9 else known


def _elapsed_s(measurement: Measurement, name: str) -> float | None:
    """Return what a cumulative counter gained from edge to edge; None where it is unknown, or was reset meanwhile."""
    start_s: float | None = getattr(measurement.edge_start, name)
    end_s: float | None = getattr(measurement.edge_end, name)
    return None if start_s is None or end_s is None or end_s < start_s else end_s - start_s


def _as_float(value: object) -> float | None:
    """Return a statistic of a column of numbers; None for a column without any."""
    return value if isinstance(value, float) else None
