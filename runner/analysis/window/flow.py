"""The flow of requests through an open loop's window: what arrived, what waited, when the GPU had nothing to do.

A `Measurement` and its energy enter, a `Flow` leaves. In a closed loop everything is None: there requests arrive when
others end. Next: the trial's row and its verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.analysis.energy.curve import energy_curve
from runner.results.measurement import Measurement
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """The columns of `tables.TRIALS` about arrivals; None where unknown, and in a closed loop."""

    arrivals_per_s: float | None = None
    queue_length_mean: float | None = None
    queue_growth: float | None = None
    busy_fraction: float | None = None
    idle_energy_j: float | None = None
    arrival_lateness_s_p95: float | None = None


def describe_flow(measurement: Measurement, energy_j: float | None) -> Flow:
    """Return how requests flowed through a window.

    Args:
        energy_j: the window's energy; None where it is unknown.
    """
    if isinstance(measurement.identity.load, ClosedLoop):
        return Flow()
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    duration_s = (end_ns - start_ns) * 1e-9
    arrived_ns, scheduled_ns, ended_ns = _times(measurement.completions, end_ns)
    counted = measurement.counted
    lateness_s = [c.arrival_lateness_s for c in counted if c.arrival_lateness_s is not None]
    idle_ns = _find_idle(arrived_ns, ended_ns, start_ns, end_ns)
    return Flow(
        arrivals_per_s=len(counted) / duration_s,
        queue_length_mean=_seconds_inside(arrived_ns, scheduled_ns, start_ns, end_ns) / duration_s,
        queue_growth=float(_count_inside(arrived_ns, ended_ns, end_ns) - _count_inside(arrived_ns, ended_ns, start_ns)),
        busy_fraction=1 - float(np.sum(idle_ns[1] - idle_ns[0])) * 1e-9 / duration_s,
        idle_energy_j=_energy_of(measurement, energy_j, idle_ns),
        arrival_lateness_s_p95=float(np.percentile(lateness_s, 95)) if lateness_s else None,
    )


def mean_in_system(measurement: Measurement) -> float | None:
    """Return the mean number of requests that had arrived and not ended, over the window; None without a request."""
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    if not measurement.completions or end_ns <= start_ns:
        return None
    arrived_ns, _, ended_ns = _times(measurement.completions, end_ns)
    return _seconds_inside(arrived_ns, ended_ns, start_ns, end_ns) / ((end_ns - start_ns) * 1e-9)


def _times(completions: Sequence[Completion], end_ns: int) -> tuple[Ints, Ints, Ints]:
    """Return when each request arrived, was first scheduled and ended, in ns; beyond the window where it never did."""
    later_ns = end_ns + 1
    known = [completion for completion in completions if completion.queued_ns is not None]

    def column(name: str) -> Ints:
        return np.array([getattr(completion, name) or later_ns for completion in known], dtype=np.int64)

    ended_ns = column("last_token_ns")
    return column("queued_ns"), np.minimum(column("scheduled_ns"), ended_ns), ended_ns


def _seconds_inside(starts_ns: Ints, ends_ns: Ints, start_ns: int, end_ns: int) -> float:
    """Return the sum of the intervals' lengths inside the window, in s."""
    inside = np.minimum(ends_ns, end_ns) - np.maximum(starts_ns, start_ns)
    return float(np.maximum(inside, 0).sum()) * 1e-9


def _count_inside(starts_ns: Ints, ends_ns: Ints, time_ns: int) -> int:
    return int(np.sum((starts_ns <= time_ns) & (ends_ns > time_ns)))


def _find_idle(arrived_ns: Ints, ended_ns: Ints, start_ns: int, end_ns: int) -> Ints:
    """Return [2, num_gaps] start and end of the stretches of the window without a request, in ns."""
    order = np.argsort(arrived_ns, kind="stable")
    arrived_ns, ended_ns = arrived_ns[order], np.maximum.accumulate(ended_ns[order])
    starts_ns = np.clip(np.concatenate(([start_ns], ended_ns)), start_ns, end_ns)
    ends_ns = np.clip(np.concatenate((arrived_ns, [end_ns])), start_ns, end_ns)
    is_gap = ends_ns > starts_ns
    return np.stack((starts_ns[is_gap], ends_ns[is_gap])).astype(np.int64)


def _energy_of(measurement: Measurement, energy_j: float | None, stretches_ns: Ints) -> float | None:
    """Return the energy of some stretches of the window, in J; None without a power trace."""
    curve = None if energy_j is None else energy_curve(measurement, energy_j)
    return None if curve is None else float(np.sum(np.diff(curve.until(stretches_ns), axis=0)))
