"""Energy of a window from a power trace and from the board's own counter.

A trace (`tables.POWER`) and two edges enter, joules leave. A gap, or an edge outside the trace, is an error and never
a smaller number.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.results.measurement import CounterTick

MAX_GAP_S = 0.25
"""Longest distance between two power samples that may be bridged; drivers sample every 20 to 100 ms."""


class TraceGapError(Exception):
    """Two samples inside the window lie more than `MAX_GAP_S` apart."""


class EdgeNotCoveredError(Exception):
    """The trace does not reach over both edges of the window."""


class CounterBackwardsError(Exception):
    """The energy counter showed less at the later tick: the driver or the board was restarted in between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterComparison:
    """Trace and counter over one and the same interval, from a tick of the counter to a tick."""

    counter_j: float
    trace_j: float | None
    """None where the trace does not cover the interval."""

    @property
    def disagreement(self) -> float | None:
        """(trace - counter) / counter; None where either is unknown or the counter did not move."""
        return None if self.trace_j is None or self.counter_j <= 0 else self.trace_j / self.counter_j - 1


def power_samples(power: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (time_ns [num_samples] int64, power_w [num_samples]) of the rows that hold a power reading, by time."""
    readings = power.select("time_ns", "power_w").drop_nulls()
    rows = readings.unique("time_ns", keep="first", maintain_order=True).sort("time_ns")
    return rows["time_ns"].to_numpy(), rows["power_w"].to_numpy()


def integrate_power(power: pl.DataFrame, start_ns: int, end_ns: int, *, max_gap_s: float = MAX_GAP_S) -> float:
    """Energy of one GPU over a window, by the trapezoid rule with both edges interpolated.

    Args:
        power: [num_samples] rows of `tables.POWER`, one GPU; rows without `power_w` are passed over.
        start_ns, end_ns: the window's edges, ns since the epoch, the trace's own clock.
        max_gap_s: longest distance between neighbouring samples, s.
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
    # Relative seconds: ns since the epoch lose their last digits in a double.
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


def compare_with_counter(
    power: pl.DataFrame, counter_start: CounterTick | None, counter_end: CounterTick | None
) -> CounterComparison | None:
    """Compare the sources from tick to tick, where neither has edges to guess; None without a counter.

    Raises: CounterBackwardsError.
    """
    if counter_start is None or counter_end is None or counter_end.time_ns <= counter_start.time_ns:
        return None
    if counter_end.energy_j < counter_start.energy_j:
        raise CounterBackwardsError(f"from {counter_start.energy_j:.3f} J back to {counter_end.energy_j:.3f} J")
    try:
        trace_j = integrate_power(power, counter_start.time_ns, counter_end.time_ns)
    except (TraceGapError, EdgeNotCoveredError):
        trace_j = None
    return CounterComparison(counter_j=counter_end.energy_j - counter_start.energy_j, trace_j=trace_j)


def scale_counter_to_window(
    comparison: CounterComparison, interval_s: float, window_s: float, window_trace_j: float | None
) -> float:
    """Counter energy of the window, in J, from that of the tick-to-tick interval around it.

    The excess at the edges (up to 0.1 s each) is taken away in proportion to the trace's energy where there is one,
    else in proportion to time, which overstates a window that is busier than its surroundings.
    """
    if window_trace_j is not None and comparison.trace_j:
        return comparison.counter_j * window_trace_j / comparison.trace_j
    return comparison.counter_j * window_s / interval_s


def _describe_cover(time_ns: np.ndarray, start_ns: int, end_ns: int) -> str:
    if len(time_ns) == 0:
        return "no power sample at all"
    late_s, early_s = (time_ns[0] - start_ns) * 1e-9, (end_ns - time_ns[-1]) * 1e-9
    missing = [f"it begins {late_s:.3f} s late"] if late_s > 0 else []
    missing += [f"it ends {early_s:.3f} s early"] if early_s > 0 else []
    return f"the trace does not cover the window: {' and '.join(missing)}"
