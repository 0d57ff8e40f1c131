"""Has the clock that was asked for arrived? The readings under load say so, while the engine warms up.

A driver that takes a request has promised nothing, and an idle reading proves nothing: so the warm-up goes on until the
GPU is seen at work at that clock. Next: `measure.py` opens the window.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle, takewhile

from runner.analysis.window.verdicts import MAX_CLOCK_DEVIATION
from runner.hardware.gpu import ClockRequest, StateReading
from runner.hardware.sensors.sampler import PowerSampler
from runner.spec.request import Request
from runner.timebase import TimeSource

SETTLE_LIMIT_S = 3.0
"""Thirty times what published changes take (50 to 80 ms); a clock that a limit overrules never arrives, and each of its
trials waits this long."""
NUM_READINGS = 3
"""In a row: readings come each 100 ms and drivers refresh theirs as often, so that one alone may be an old one."""
GPU_IDLE_BIT = 0x1


class Settling:
    """One change of clocks, from the moment that it was asked for (now).

    Args:
        request: None in both of its clocks settles at once: the GPU's default promises no clock.
    """

    def __init__(self, sampler: PowerSampler, time_source: TimeSource, request: ClockRequest) -> None:
        self._sampler = sampler
        self._time_source = time_source
        self._request = request
        self._changed_ns = time_source.now_ns()
        self._settle_s: float | None = None

    @property
    def settle_s(self) -> float | None:
        """Seconds until the first reading under load that showed the clocks, as all later ones did.

        None: they have not been seen, or none was asked for.
        """
        return self._settle_s

    def warm_up(self, requests: Sequence[Request], num_requests: int) -> Iterator[Request]:
        """Yield requests, over and over, until the clocks are seen or the limit is up; `num_requests` at least."""
        for number, request in enumerate(cycle(requests)):
            if number >= num_requests and self._is_over():
                return
            yield request

    def _is_over(self) -> bool:
        if self._request.sm_clock_mhz is None and self._request.mem_clock_mhz is None:
            return True
        states = self._sampler.states_since(self._changed_ns)
        arrived_ns = find_arrival_ns(states, self._request)
        if arrived_ns is not None:
            self._settle_s = (arrived_ns - self._changed_ns) * 1e-9
            return True
        return (self._time_source.now_ns() - self._changed_ns) * 1e-9 >= SETTLE_LIMIT_S


def find_arrival_ns(states: Sequence[StateReading], request: ClockRequest) -> int | None:
    """Return when the clocks were there: the first of the last readings under load that all show them.

    Args:
        states: since the change, oldest first.
    Returns: ns since the epoch; None while fewer than `NUM_READINGS` show them. A driver that does not say why a clock
        is what it is says of no reading that the GPU was idle.
    """
    under_load = [state for state in reversed(states) if not (state.event_reasons or 0) & GPU_IDLE_BIT]
    showing = list(takewhile(lambda state: _shows(state, request), under_load))
    return showing[-1].time_ns if len(showing) >= NUM_READINGS else None


def _shows(state: StateReading, request: ClockRequest) -> bool:
    pairs = ((request.sm_clock_mhz, state.sm_clock_mhz), (request.mem_clock_mhz, state.mem_clock_mhz))
    return all(
        asked is None or (ran is not None and abs(ran - asked) <= MAX_CLOCK_DEVIATION * asked) for asked, ran in pairs
    )
