"""Joules until any instant: a power trace enters, many stretches of it are integrated at once.

Phases, regression and attribution cut a window into thousands of pieces: this is the trapezoid rule of `energy.py`,
summed once.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.analysis.energy import integrate_power, power_samples


class EnergyCurve:
    """The running integral of one GPU's trace over a window.

    Args:
        power: [num_samples] rows of `tables.POWER`, one GPU.
        start_ns, end_ns: the window's edges, ns since the epoch.
    Raises: EdgeNotCoveredError, TraceGapError: as `integrate_power` over the same window.
    """

    def __init__(self, power: pl.DataFrame, start_ns: int, end_ns: int) -> None:
        self.total_j = integrate_power(power, start_ns, end_ns)
        """Energy of the window."""
        time_ns, self._power_w = power_samples(power)
        self._origin_ns = int(time_ns[0])
        self._time_s = (time_ns - self._origin_ns) * 1e-9
        steps_j = np.diff(self._time_s) * (self._power_w[1:] + self._power_w[:-1]) / 2
        self._energy_j = np.concatenate(([0.0], np.cumsum(steps_j)))

    @property
    def sample_period_s(self) -> float:
        """Median distance of the samples."""
        return float(np.median(np.diff(self._time_s)))

    def until(self, time_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the energy from the trace's first sample until instants of the window, in J; same shape."""
        time_s = (np.asarray(time_ns, dtype=np.int64) - self._origin_ns) * 1e-9
        before = np.clip(np.searchsorted(self._time_s, time_s, side="right") - 1, 0, len(self._time_s) - 1)
        power_w = np.interp(time_s, self._time_s, self._power_w)
        beyond_s = time_s - self._time_s[before]
        return np.asarray(self._energy_j[before] + beyond_s * (self._power_w[before] + power_w) / 2)

    def between(self, start_ns: int, end_ns: int) -> float:
        """Return the energy of one stretch of the window, in J."""
        first_j, last_j = self.until(np.array([start_ns, end_ns]))
        return float(last_j - first_j)
