"""What tells the time: the machine's own time, and virtual time, which jumps.

Everything that waits or stamps takes a `TimeSource`. With `VirtualTime` an hour of simulated measurement runs in
milliseconds, and every test sees the same instants.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class TimeSource(Protocol):
    """Tells the time, and waits."""

    def now_ns(self) -> int:
        """Return ns since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds, or let as much virtual time pass."""
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
    """Time that passes only in `sleep`. Periodic callbacks run at their exact instants.

    Only one thread may use it. A sampler is a thread in real time; in virtual time it runs through `every`.
    """

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._due: list[tuple[int, int, int, Callable[[], None]]] = []
        self._ended: set[int] = set()

    def now_ns(self) -> int:
        """Return virtual ns since the epoch."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`, and run the callbacks that fall due on the way."""
        self.advance_to(self._now_ns + max(round(seconds * 1e9), 0))

    def advance_to(self, time_ns: int) -> None:
        """Advance to an instant, never backwards, and run the callbacks that fall due on the way."""
        while self._due and self._due[0][0] <= time_ns:
            due_ns, key, period_ns, callback = heapq.heappop(self._due)
            if key in self._ended:
                self._ended.discard(key)
                continue
            self._now_ns = max(self._now_ns, due_ns)
            heapq.heappush(self._due, (due_ns + period_ns, key, period_ns, callback))
            callback()
        self._now_ns = max(self._now_ns, time_ns)

    def every(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` every `seconds` of virtual time from now on. Returns a function that ends this."""
        key = next(self._order)
        period_ns = round(seconds * 1e9)
        heapq.heappush(self._due, (self._now_ns + period_ns, key, period_ns, callback))
        return lambda: self._ended.add(key)
