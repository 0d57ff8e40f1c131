"""Energy of a window from the GPU's own counter, which is read where it ticks.

Ticks and a power trace enter, joules leave. Next: `account.py`.
"""

from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from runner.analysis.energy.trace import (
    Z_95,
    EdgeNotCoveredError,
    EnergyEstimate,
    TraceGapError,
    estimate_trace,
    integrate_power,
    power_samples,
    sampling_variance_j2,
)
from runner.results.measurement import CounterTick
from runner.results.sensors import SensorFindings

FINE_PERIOD_S = 0.05
"""Readings this close to each other resolve what happens between two ticks."""
_TICK_NS = 100_000_000
TICK_STAMP_S = 0.004
"""Time between the two readings that enclose a tick: 1 ms of sleep, and a call of 3 ms."""


class CounterBackwardsError(Exception):
    """The energy counter showed less at the later tick: the driver or the GPU was restarted in between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterComparison:
    """Trace and counter over the same interval, from one tick of the counter to another."""

    counter_j: float
    trace_j: float | None
    """None where the trace does not cover the interval."""
    trace_uncertainty_j: float = 0.0

    @property
    def disagreement(self) -> float | None:
        """(trace - counter) / counter; None where either is unknown or the counter did not move."""
        return None if self.trace_j is None or self.counter_j <= 0 else self.trace_j / self.counter_j - 1

    @property
    def is_conclusive(self) -> bool:
        """Whether trace and counter differ by more than what the trace may have missed."""
        return self.trace_j is not None and abs(self.trace_j - self.counter_j) > self.trace_uncertainty_j


def compare_with_counter(
    power: pl.DataFrame,
    counter_start: CounterTick | None,
    counter_end: CounterTick | None,
    sensors: SensorFindings | None = None,
) -> CounterComparison | None:
    """Compare the sources from tick to tick, where neither has to guess at an edge. None without a counter.

    Raises: CounterBackwardsError.
    """
    if counter_start is None or counter_end is None or counter_end.time_ns <= counter_start.time_ns:
        return None
    _require_rising(power, counter_start, counter_end)
    counter_j = counter_end.energy_j - counter_start.energy_j
    try:
        trace = estimate_trace(power, counter_start.time_ns, counter_end.time_ns, sensors)
    except (TraceGapError, EdgeNotCoveredError):
        return CounterComparison(counter_j=counter_j, trace_j=None)
    return CounterComparison(counter_j=counter_j, trace_j=trace.energy_j, trace_uncertainty_j=trace.uncertainty_j)


def estimate_counter(
    power: pl.DataFrame,
    ticks: tuple[CounterTick, CounterTick],
    start_ns: int,
    end_ns: int,
    sensors: SensorFindings | None = None,
) -> EnergyEstimate:
    """Estimate a window's energy by the counter, from the last tick before it to the first one after it.

    The energy between an edge and the tick beyond it is taken off: by the trace if it is fine enough, else at the power
    that was observed there. After the end that is the first power reading that averages over nothing before the end, or
    the mean power until the counter's next tick.

    Args:
        power: [num_samples] rows of `tables.POWER`, one GPU, with the counter's readings.
        ticks: the counter's ticks, at or outside the window's edges.
    """
    first, last = ticks
    counter_j = last.energy_j - first.energy_j
    mean_w = counter_j / ((last.time_ns - first.time_ns) * 1e-9)
    edges_j2 = unseen_j2 = 0.0
    edges_j = _integrate_edges(power, ticks, start_ns, end_ns, sensors)
    if edges_j is None:
        before_s, after_s = (start_ns - first.time_ns) * 1e-9, (last.time_ns - end_ns) * 1e-9
        before_w, after_w = _watch_edges(power, ticks, end_ns, mean_w, sensors)
        edges_j = before_s * before_w + after_s * after_w
        edges_j2 = (before_s * (before_w - mean_w)) ** 2 + (after_s * (after_w - mean_w)) ** 2
    if sensors is not None and sensors.sensors["counter"].averaging_window_s is None:
        unseen_j2 = sampling_variance_j2(power, start_ns, end_ns, unseen_share=1.0)
    # An unknown between two bounds has a twelfth of their distance squared for its variance.
    variance_j2 = (edges_j2 + 2 * (TICK_STAMP_S * mean_w) ** 2) / 12 + unseen_j2
    return EnergyEstimate(energy_j=counter_j - edges_j, uncertainty_j=Z_95 * variance_j2**0.5)


def _integrate_edges(
    power: pl.DataFrame,
    ticks: tuple[CounterTick, CounterTick],
    start_ns: int,
    end_ns: int,
    sensors: SensorFindings | None,
) -> float | None:
    """Return the energy between the window's edges and the ticks beyond, in J; None if the trace does not resolve it.

    It is in the counter's own joules, which may differ from the trace's by some percent.
    """
    first, last = ticks
    if sensors and (sensors.power_source is None or sensors.period_s(sensors.power_source) > FINE_PERIOD_S):
        return None
    try:
        interval_j = integrate_power(power, first.time_ns, last.time_ns)
        edges_j = integrate_power(power, first.time_ns, start_ns) + integrate_power(power, end_ns, last.time_ns)
    except (TraceGapError, EdgeNotCoveredError):
        return None
    return edges_j / interval_j * (last.energy_j - first.energy_j) if interval_j > 0 else None


def _watch_edges(
    power: pl.DataFrame,
    ticks: tuple[CounterTick, CounterTick],
    end_ns: int,
    mean_w: float,
    sensors: SensorFindings | None,
) -> tuple[float, float]:
    """Return the power before the first tick and after the window's end, in W; `mean_w` where it was not observed."""
    first, last = ticks
    source = sensors.power_source if sensors else None
    reach_s = max(sensors.period_s(source), sensors.averaging_window_s(source)) if sensors and source else 0.0
    stamps_ns, power_w = power_samples(power)
    earlier, later = power_w[stamps_ns <= first.time_ns], power_w[stamps_ns >= end_ns + round(reach_s * 1e9)]
    after_w = float(later[0]) if len(later) else _power_by_next_tick(power, last)
    return float(earlier[-1]) if len(earlier) else mean_w, mean_w if after_w is None else after_w


def _require_rising(power: pl.DataFrame, first: CounterTick, last: CounterTick) -> None:
    """Raise CounterBackwardsError where a reading between two ticks, or the last tick, is less than one before it."""
    # Another thread took the readings beside a tick. Their stamps may be one call (3 ms) off, so they are left out.
    apart = pl.col("time_ns").is_between(first.time_ns + _TICK_NS, last.time_ns - _TICK_NS)
    readings_j = power.filter(apart).sort("time_ns")["energy_counter_total_j"].drop_nulls()
    for earlier_j, later_j in pairwise([first.energy_j, *readings_j, last.energy_j]):
        if later_j < earlier_j:
            raise CounterBackwardsError(f"from {earlier_j:.3f} J back to {later_j:.3f} J")


def _power_by_next_tick(power: pl.DataFrame, last: CounterTick) -> float | None:
    """Return the mean power from a tick to the counter's next reading, in W; None where there is none."""
    readings = power.select("time_ns", "energy_counter_total_j").drop_nulls().sort("time_ns")
    following = readings.filter(pl.col("time_ns") > last.time_ns)
    if following.is_empty():
        return None
    next_ns, next_j = int(following["time_ns"][0]), float(following["energy_counter_total_j"][0])
    return (next_j - last.energy_j) / ((next_ns - last.time_ns) * 1e-9)
