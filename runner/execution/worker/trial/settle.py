"""Settling: the engine warms up until readings under load show the requested clocks.

That the NVIDIA driver accepts a clock does not mean that the GPU runs at it, and a reading of an idle GPU does not show
it. Next: `measure.py` opens the window.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle, takewhile

from runner.analysis.window.verdicts import MAX_CLOCK_DEVIATION
from runner.hardware.gpu import StateReading
from runner.hardware.sensors.sampler import PowerSampler
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request
from runner.spec.throttle import ThrottleReason
from runner.timebase import TimeSource

SETTLE_LIMIT_S = 3.0
"""Thirty times as long as published changes take (50 to 80 ms). Where a power limit overrules the clock, it is never
observed, and each trial waits this long."""
NUM_READINGS = 3
"""How many readings in a row must show the clocks. The sampler reads every 100 ms and the driver refreshes as often, so
that a single reading may be an old one."""


class Settling:
    """Waits for one change of clocks, counted from now.

    Args:
        operating_point: the new one. Without a requested clock it settles at once.
    """

    def __init__(self, sampler: PowerSampler, time_source: TimeSource, operating_point: OperatingPoint) -> None:
        self._sampler = sampler
        self._time_source = time_source
        self._operating_point = operating_point
        self._changed_ns = time_source.now_ns()
        self._settle_s: float | None = None

    @property
    def settle_s(self) -> float | None:
        """Seconds until the first reading under load that showed the clocks, as all later readings did.

        None: no reading has shown them, or no clock was requested.
        """
        return self._settle_s

    def warm_up(self, requests: Sequence[Request], num_requests: int) -> Iterator[Request]:
        """Yield requests, over and over, until the clocks are observed or the limit is reached.

        Args:
            num_requests: the fewest requests.
        """
        for number, request in enumerate(cycle(requests)):
            if number >= num_requests and self._is_over():
                return
            yield request

    def _is_over(self) -> bool:
        if self._operating_point.sm_clock_mhz is None and self._operating_point.mem_clock_mhz is None:
            return True
        states = self._sampler.states_since(self._changed_ns)
        arrived_ns = find_arrival_ns(states, self._operating_point)
        if arrived_ns is not None:
            self._settle_s = (arrived_ns - self._changed_ns) * 1e-9
            return True
        return (self._time_source.now_ns() - self._changed_ns) * 1e-9 >= SETTLE_LIMIT_S


def find_arrival_ns(states: Sequence[StateReading], operating_point: OperatingPoint) -> int | None:
    """Return when the GPU reached the clocks: the first of the last readings under load that all show them.

    Args:
        states: since the change, oldest first.
    Returns: ns since the epoch; None while fewer than `NUM_READINGS` show them. Without throttle reasons, every reading
        counts as under load.
    """
    under_load = [state for state in reversed(states) if not _is_idle(state)]
    showing = list(takewhile(lambda state: _shows(state, operating_point), under_load))
    return showing[-1].time_ns if len(showing) >= NUM_READINGS else None


def _is_idle(state: StateReading) -> bool:
    return state.throttle_reasons is not None and ThrottleReason.IDLE in state.throttle_reasons


def _shows(state: StateReading, operating_point: OperatingPoint) -> bool:
    pairs = (
        (operating_point.sm_clock_mhz, state.sm_clock_mhz),
        (operating_point.mem_clock_mhz, state.mem_clock_mhz),
    )
    return all(
        asked is None or (ran is not None and abs(ran - asked) <= MAX_CLOCK_DEVIATION * asked) for asked, ran in pairs
    )
