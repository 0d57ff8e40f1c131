"""Energy until any instant of a window: a power trace enters, a curve leaves that many stretches are read from at once.

Phases, regression and attribution cut a window into thousands of pieces. So the trapezoid rule of `trace.py` is summed
once, and scaled to the energy that the window's row states, which may come from the counter.
"""

import numpy as np
from numpy.typing import NDArray

from runner.analysis.energy.trace import (
    MAX_GAP_PERIODS,
    MAX_GAP_S,
    EdgeNotCoveredError,
    TraceGapError,
    centre_readings,
    integrate_power,
    power_samples,
    reading_times_s,
)
from runner.results.measurement import Measurement
from runner.results.sensors import SensorFindings

NO_TRACE = "there is no power trace of the whole window"


class EnergyCurve:
    """The running integral of one GPU's power over a window. Made by `energy_curve`."""

    def __init__(
        self, time_ns: NDArray[np.int64], power_w: NDArray[np.float64], *, total_j: float, longest_window_s: float
    ) -> None:
        self.total_j = total_j
        """Energy of the window."""
        self._power_w = power_w
        self._origin_ns = int(time_ns[0])
        self._time_s = (time_ns - self._origin_ns) * 1e-9
        pieces_j = np.diff(self._time_s) * (power_w[1:] + power_w[:-1]) / 2
        self._energy_j = np.concatenate(([0.0], np.cumsum(pieces_j)))
        self.reach_s = max(float(np.median(np.diff(self._time_s))), longest_window_s)
        """How far from its own instant a reading may reach: the time between readings, or the longest time that one
        averages over."""

    def until(self, time_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the energy from the trace's first reading until instants of the window, in J; same shape."""
        time_s = (np.asarray(time_ns, dtype=np.int64) - self._origin_ns) * 1e-9
        before = np.clip(np.searchsorted(self._time_s, time_s, side="right") - 1, 0, len(self._time_s) - 1)
        power_w = np.interp(time_s, self._time_s, self._power_w)
        beyond_s = time_s - self._time_s[before]
        return np.asarray(self._energy_j[before] + beyond_s * (self._power_w[before] + power_w) / 2)

    def between(self, start_ns: int, end_ns: int) -> float:
        """Return the energy of one stretch of the window, in J."""
        first_j, last_j = self.until(np.array([start_ns, end_ns]))
        return float(last_j - first_j)


def energy_curve(measurement: Measurement, energy_j: float) -> EnergyCurve | None:
    """Return a window's curve, scaled so that the window has `energy_j`; None where no trace covers all of it."""
    period_s, averaging_window_s = reading_times_s(measurement.sensors)
    power = centre_readings(measurement.power, averaging_window_s)
    max_gap_s = max(MAX_GAP_S, MAX_GAP_PERIODS * period_s)
    try:
        trace_j = integrate_power(power, measurement.start_ns, measurement.end_ns, max_gap_s=max_gap_s)
    except (EdgeNotCoveredError, TraceGapError):
        return None
    if trace_j <= 0:
        return None
    time_ns, power_w = power_samples(power)
    longest_window_s = max(averaging_window_s, _find_bound_s(measurement.sensors))
    return EnergyCurve(time_ns, power_w * (energy_j / trace_j), total_j=energy_j, longest_window_s=longest_window_s)


def _find_bound_s(sensors: SensorFindings | None) -> float:
    """Return the most that the trace's readings may average over, in s, if a probe found only a bound; else 0."""
    if sensors is None or sensors.power_source is None:
        return 0.0
    finding = sensors.sensors[sensors.power_source]
    return (finding.averaging_window_max_s or 0.0) if finding.averaging_window_s is None else 0.0
