"""Energy of a window from a power trace, with an interval for what the sensor could not see.

A trace (`tables.POWER`) and two edges enter, joules leave. A gap in the trace, or an edge outside it, is an error. It
never becomes a smaller number. Next: `account.py`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.results.measurement import Measurement
from runner.results.sensors import ASSUMED_PERIOD_S, SensorFindings

MAX_GAP_S = 0.25
"""Longest time between two power samples over which power is interpolated. Drivers sample every 20 to 100 ms."""

MAX_GAP_PERIODS = 2.5
"""The same limit for slower sensors, in periods: one reading may be missing."""
MAX_POINT_PERIODS = 1.5
"""Readings that average over more than this many periods overlap, so that they are not points in time."""
Z_95 = 1.96
"""Standard deviations to either side of a mean that hold 95 % of a normal distribution."""


class TraceGapError(Exception):
    """Two samples inside the window lie more than `MAX_GAP_S` apart."""


class EdgeNotCoveredError(Exception):
    """The trace does not reach over both edges of the window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyEstimate:
    """Energy of a window by one source."""

    energy_j: float
    uncertainty_j: float
    """Half-width of a 95 % interval for what the source could not see: the time between its readings, and the edges.
    It leaves out the GPU's gain error of up to 5 %, which is the same in every window."""


def readings_in_window(measurement: Measurement) -> pl.DataFrame:
    """Return [num_readings] rows of `tables.POWER`: what was read between the window's edges."""
    return measurement.power.filter(pl.col("time_ns").is_between(measurement.start_ns, measurement.end_ns))


def power_samples(power: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (time_ns [num_samples] int64, power_w [num_samples]) of the rows that hold a power reading, by time."""
    readings = power.select("time_ns", "power_w").drop_nulls()
    rows = readings.unique("time_ns", keep="first", maintain_order=True).sort("time_ns")
    return rows["time_ns"].to_numpy(), rows["power_w"].to_numpy()


def integrate_power(power: pl.DataFrame, start_ns: int, end_ns: int, *, max_gap_s: float = MAX_GAP_S) -> float:
    """Return the energy of one GPU over a window, by the trapezoid rule with both edges interpolated.

    Args:
        power: [num_samples] rows of `tables.POWER`, one GPU; rows without `power_w` are passed over.
        start_ns, end_ns: the window's edges, ns since the epoch, by the trace's own time source.
        max_gap_s: longest time between neighbouring samples, in s.
    Returns: energy in J.
    Raises: EdgeNotCoveredError, TraceGapError; ValueError where end_ns < start_ns.
    Source: the driver's sample buffer (NVML_TOTAL_POWER_SAMPLES), see docs/measurement.md.
    """
    if end_ns < start_ns:
        raise ValueError(f"the window ends {start_ns - end_ns} ns before it starts")
    time_ns, power_w = power_samples(power)
    if len(time_ns) == 0 or time_ns[0] > start_ns or time_ns[-1] < end_ns:
        raise EdgeNotCoveredError(_describe_cover(time_ns, start_ns, end_ns))
    first = int(np.searchsorted(time_ns, start_ns, side="right")) - 1
    last = int(np.searchsorted(time_ns, end_ns, side="left"))
    # Seconds since the window's start: ns since the epoch lose their last digits in a double.
    seconds = (time_ns[first : last + 1] - start_ns) * 1e-9
    if len(seconds) > 1 and float(np.diff(seconds).max()) > max_gap_s:
        raise TraceGapError(f"{np.diff(seconds).max():.3f} s between two power samples, at most {max_gap_s} s allowed")
    watts = power_w[first : last + 1]
    length_s = (end_ns - start_ns) * 1e-9
    inside = (seconds > 0.0) & (seconds < length_s)
    edges_w = np.interp([0.0, length_s], seconds, watts)
    x = np.concatenate(([0.0], seconds[inside], [length_s]))
    y = np.concatenate((edges_w[:1], watts[inside], edges_w[1:]))
    return float(np.trapezoid(y, x))


def estimate_trace(
    power: pl.DataFrame, start_ns: int, end_ns: int, sensors: SensorFindings | None = None
) -> EnergyEstimate:
    """Estimate a window's energy by the trace, in the way that suits the sensor behind it.

    Args:
        power: [num_samples] rows of `tables.POWER`, one GPU.
        start_ns, end_ns: the window's edges, ns since the epoch.
        sensors: what a probe found; None for a sample buffer of near-instantaneous readings 20 ms apart.
    Raises: EdgeNotCoveredError, TraceGapError; ValueError where end_ns < start_ns.
    """
    period_s, window_s = reading_times_s(sensors)
    max_gap_s = max(MAX_GAP_S, MAX_GAP_PERIODS * period_s)
    if window_s > MAX_POINT_PERIODS * period_s:
        return _lay_averages(power, start_ns, end_ns, window_s, max_gap_s)
    centred = centre_readings(power, window_s)
    energy_j = integrate_power(centred, start_ns, end_ns, max_gap_s=max_gap_s)
    variance_j2 = sampling_variance_j2(centred, start_ns, end_ns, unseen_share=1 - min(window_s / period_s, 1.0))
    return EnergyEstimate(energy_j=energy_j, uncertainty_j=Z_95 * variance_j2**0.5)


def reading_times_s(sensors: SensorFindings | None) -> tuple[float, float]:
    """Return the period of a trace's readings, and the time before its stamp that each averages over, in s."""
    source = (sensors.power_source if sensors else None) or "samples"
    if sensors is None:
        return ASSUMED_PERIOD_S[source], 0.0
    return sensors.period_s(source), sensors.averaging_window_s(source)


def centre_readings(power: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Return the readings stamped in the middle of the `window_s` before their stamps, which they average over."""
    return power.with_columns(pl.col("time_ns") - round(window_s / 2 * 1e9))


def sampling_variance_j2(power: pl.DataFrame, start_ns: int, end_ns: int, *, unseen_share: float) -> float:
    """Return the variance of an integral over regular readings, from the readings' own variability, in J^2.

    A line through the readings' variogram at one and at two intervals tells two parts apart. What is left at zero (the
    nugget) changes faster than the readings, and averages out by their number. What grows with the interval costs a
    sixth of itself per interval (systematic sampling under a linear variogram: Gy, Sampling of Particulate Materials,
    1979). Changes in step with the readings cannot be seen in them, and are not counted here.

    Args:
        unseen_share: the share of the time between readings that none of them averages over: 1 for points in time, 0
            for means that lie end to end.
    """
    time_ns, power_w = power_samples(power)
    first = max(int(np.searchsorted(time_ns, start_ns, side="right")) - 1, 0)
    last = int(np.searchsorted(time_ns, end_ns, side="left"))
    watts = power_w[first : last + 1]
    if len(watts) < 3:
        return 0.0
    near = float(np.mean(np.diff(watts) ** 2)) / 2
    far = float(np.mean((watts[2:] - watts[:-2]) ** 2)) / 2
    slope = min(far - near, near)
    num_intervals = len(watts) - 1
    interval_s = float(time_ns[first + num_intervals] - time_ns[first]) * 1e-9 / num_intervals
    return num_intervals * interval_s**2 * ((near - slope) * unseen_share + max(slope, 0.0) / 6)


def _lay_averages(
    power: pl.DataFrame, start_ns: int, end_ns: int, average_s: float, max_gap_s: float
) -> EnergyEstimate:
    """Return the energy by readings that each average over more than a period.

    Averages are laid end to end from the window's start. So they cover the window without a gap or an overlap, and
    only the last one reaches over an edge. There the mean power after the end, of a GPU at rest, is taken off again.
    """
    if end_ns < start_ns:
        raise ValueError(f"the window ends {start_ns - end_ns} ns before it starts")
    time_ns, power_w = power_samples(power)
    average_ns = round(average_s * 1e9)
    if len(time_ns) == 0 or time_ns[0] > start_ns + average_ns or time_ns[-1] < end_ns + average_ns:
        raise EdgeNotCoveredError(_describe_cover(time_ns, start_ns + average_ns, end_ns + average_ns))
    seconds = (time_ns - start_ns) * 1e-9
    length_s = (end_ns - start_ns) * 1e-9
    needed = seconds[np.searchsorted(seconds, average_s, side="right") - 1 :]
    if len(needed) > 1 and float(np.diff(needed).max()) > max_gap_s:
        raise TraceGapError(f"{np.diff(needed).max():.3f} s between two power readings, at most {max_gap_s} s allowed")
    ends_s = average_s * np.arange(1, int(length_s // average_s) + 2)
    beyond_s = ends_s[-1] - length_s
    after = power_w[seconds >= length_s + average_s]
    energy_j = average_s * float(np.interp(ends_s, seconds, power_w).sum()) - beyond_s * float(after[0])
    # Between two readings the mean went from one to the other at an unknown instant.
    later = np.minimum(np.searchsorted(seconds, ends_s, side="left"), len(seconds) - 1)
    steps_j = average_s * (power_w[later] - power_w[np.maximum(later - 1, 0)])
    after_j = beyond_s * float(np.ptp(after))
    variance_j2 = (float(np.sum(steps_j**2)) + after_j**2) / 12
    return EnergyEstimate(energy_j=energy_j, uncertainty_j=Z_95 * variance_j2**0.5)


def _describe_cover(time_ns: np.ndarray, start_ns: int, end_ns: int) -> str:
    if len(time_ns) == 0:
        return "no power sample at all"
    late_s, early_s = (time_ns[0] - start_ns) * 1e-9, (end_ns - time_ns[-1]) * 1e-9
    missing = [f"it begins {late_s:.3f} s late"] if late_s > 0 else []
    missing += [f"it ends {early_s:.3f} s early"] if early_s > 0 else []
    return f"the trace does not cover the window: {' and '.join(missing)}"
