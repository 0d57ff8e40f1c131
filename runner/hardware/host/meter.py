"""HostMeter: the running total of a host's energy, read at the edges of a window, and in between by its own thread.

A folder of RAPL counters enters, `HostReading`s leave. Two of them make a `HostEnergy`.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.hardware.host.rapl import POWERCAP, RaplError, RaplZone, find_zones
from runner.results.measurement import HostEnergy
from runner.timebase import TimeSource

FOLLOW_S = 20.0
"""How often the thread reads. A counter of 65 kJ, the smallest known, lasts three minutes at 350 W, 33 s at 2 kW."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostReading:
    """The whole host's energy since some moment, at one instant."""

    time_ns: int
    energy_j: float | None
    num_resets: int = 0
    """How often a counter was set back until now."""
    reason: str | None = None
    """Why the energy is None."""


class HostMeter:
    """The energy counters of this host. Several threads may read it.

    Args:
        zones: the counters.
        num_workers: the workers of this run on this host.
        reason: why there are no counters, where there are none.
    """

    def __init__(
        self, zones: Sequence[RaplZone], time_source: TimeSource, *, num_workers: int = 1, reason: str | None = None
    ) -> None:
        self._zones = zones
        self._time_source = time_source
        self._num_workers = num_workers
        self._reason = reason
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="host-meter", daemon=True)

    def start(self) -> None:
        """Begin to follow the counters, so that none goes round unseen."""
        if self._zones:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def read(self) -> HostReading:
        """Return what the host has used since the first reading. Reading takes some 30 µs a counter.

        Where any counter cannot be read the energy is None: the others would make a sum too small.
        """
        with self._lock:
            now_ns = self._time_source.now_ns()
            if not self._zones:
                return HostReading(time_ns=now_ns, energy_j=None, reason=self._reason)
            try:
                for zone in self._zones:
                    zone.read(now_ns)
            except RaplError as error:
                return HostReading(time_ns=now_ns, energy_j=None, reason=str(error))
            return HostReading(
                time_ns=now_ns,
                energy_j=sum(zone.total_j for zone in self._zones),
                num_resets=sum(zone.num_resets for zone in self._zones),
            )

    def compare(self, first: HostReading, last: HostReading, idle_power_w: float | None = None) -> HostEnergy:
        """Return what the host used between two readings."""
        energy_j = _gained_j(first, last)
        reason = first.reason or last.reason
        if energy_j is None and reason is None:
            reason = "an energy counter of the host was set back in the window"
        return HostEnergy(
            energy_j=energy_j,
            elapsed_s=(last.time_ns - first.time_ns) * 1e-9,
            idle_power_w=idle_power_w,
            num_workers=self._num_workers,
            zones=tuple(zone.name for zone in self._zones),
            reason=reason,
        )

    def _follow(self) -> None:
        while not self._stopping.wait(FOLLOW_S):
            with suppress(OSError):
                self.read()


def find_host_meter(time_source: TimeSource, *, num_workers: int = 1, root: Path = POWERCAP) -> HostMeter:
    """Return the meter of this host. Where it has no counters, the readings of the meter say so."""
    try:
        return HostMeter(find_zones(root), time_source, num_workers=num_workers)
    except RaplError as error:
        return HostMeter((), time_source, num_workers=num_workers, reason=str(error))


def mean_power_w(first: HostReading, last: HostReading) -> float | None:
    """Return the host's mean power between two readings, in W; None where it is not known."""
    energy_j, elapsed_s = _gained_j(first, last), (last.time_ns - first.time_ns) * 1e-9
    return None if energy_j is None or elapsed_s <= 0 else energy_j / elapsed_s


def _gained_j(first: HostReading, last: HostReading) -> float | None:
    if first.energy_j is None or last.energy_j is None or first.num_resets != last.num_resets:
        return None
    return last.energy_j - first.energy_j
