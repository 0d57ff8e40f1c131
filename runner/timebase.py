"""Time as an argument: the wall clock, and a virtual clock that jumps.

Whatever waits or stamps takes a `Clock`. With `VirtualTime` an hour of simulated measurement runs in milliseconds,
and every test sees the same instants.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class TimeSource(Protocol):
    """Now, and waiting."""

    def now_ns(self) -> int:
        """Return ns since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, or let virtual time pass."""
        ...


class WallTime:
    """The machine's own time."""

    def now_ns(self) -> int:
        """Return ns since the epoch."""
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(max(seconds, 0.0))


class VirtualTime:
    """Time that passes only when somebody sleeps; periodic callbacks run at their exact instants.

    One thread only. `every` is how a sampler, which is a thread in real time, runs in virtual time.
    """

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._due: list[tuple[int, int, int, Callable[[], None]]] = []
        self._interrupted: set[int] = set()

    def now_ns(self) -> int:
        """Return virtual ns since the epoch."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`, running what falls due on the way."""
        self.advance_to(self._now_ns + max(round(seconds * 1e9), 0))

    def advance_to(self, time_ns: int) -> None:
        """Advance to an instant (never backwards), running what falls due on the way."""
        while self._due and self._due[0][0] <= time_ns:
            due_ns, key, period_ns, callback = heapq.heappop(self._due)
            if key in self._interrupted:
                self._interrupted.discard(key)
                continue
            self._now_ns = max(self._now_ns, due_ns)
            heapq.heappush(self._due, (due_ns + period_ns, key, period_ns, callback))
            callback()
        self._now_ns = max(self._now_ns, time_ns)

    def every(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` each `seconds` of virtual time from now on; returns a function that cancels it."""
        key = next(self._order)
        period_ns = round(seconds * 1e9)
        heapq.heappush(self._due, (self._now_ns + period_ns, key, period_ns, callback))
        return lambda: self._interrupted.add(key)
