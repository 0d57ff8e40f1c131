"""How requests reach the engine while a window is open.

A sweep file's axes enter, a `Load` leaves. Trials, verdicts and tables take a `Load`. Another kind of load needs a
class here, and changes where code asks which kind it is. Next: `trial.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LoadKey = int | tuple[str, float | None, float | None, float | str]
"""A load's part of a block's id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedLoop:
    """A constant number of requests in flight: when one ends, the next one starts."""

    concurrency: int
    """Requests in flight, >= 1."""

    @property
    def key(self) -> LoadKey:
        """The load's part of a block's id."""
        return self.concurrency

    @property
    def warm_up(self) -> "ClosedLoop":
        """How requests reach the engine before each window."""
        return self

    @property
    def is_single(self) -> bool:
        """Whether a request is alone on the GPU, so that its own energy can be measured."""
        return self.concurrency == 1

    def __str__(self) -> str:
        return f"{self.concurrency} in flight"

    def columns(self) -> dict[str, Any]:
        """Return the load's columns of `tables.TRIALS`, by name."""
        return _columns(concurrency=self.concurrency)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenLoop:
    """Requests that arrive at a rate, whether or not earlier ones have ended."""

    request_rate_per_s: float | None = None
    """Mean arrivals a second, > 0; None for a share of a capacity that is not known yet."""
    capacity_fraction: float | None = None
    """The rate as a share of the capacity, > 0; None where the sweep file gives the rate itself."""
    burstiness: float = 1.0
    """Shape of the gamma distribution of the gaps, > 0: 1 is Poisson, infinity is even."""

    @property
    def key(self) -> LoadKey:
        """The load's part of a block's id."""
        burstiness = "inf" if self.burstiness == float("inf") else self.burstiness
        return ("open", self.request_rate_per_s, self.capacity_fraction, burstiness)

    @property
    def warm_up(self) -> ClosedLoop:
        """How requests reach the engine before each window."""
        return ClosedLoop(concurrency=WARM_UP_CONCURRENCY)

    @property
    def is_single(self) -> bool:
        """Whether a request is alone on the GPU. Requests that arrive at a rate may meet."""
        return False

    def at_capacity(self, capacity_per_s: float) -> "OpenLoop":
        """Return the load with the rate that a share of a capacity comes to, in 1/s."""
        if self.capacity_fraction is None:
            return self
        return replace(self, request_rate_per_s=self.capacity_fraction * capacity_per_s)

    def __str__(self) -> str:
        share = "" if self.capacity_fraction is None else f"{100 * self.capacity_fraction:g} % of capacity"
        rate = "" if self.request_rate_per_s is None else f"{self.request_rate_per_s:.3g} requests/s"
        bursts = "" if self.burstiness == 1 else f", burstiness {self.burstiness:g}"
        return (f"{rate} ({share})" if rate and share else rate or share) + bursts

    def columns(self) -> dict[str, Any]:
        """Return the load's columns of `tables.TRIALS`, by name."""
        return _columns(
            request_rate_per_s_requested=self.request_rate_per_s,
            capacity_fraction=self.capacity_fraction,
            burstiness=self.burstiness,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """Requests that arrive as a trace recorded them."""

    request_rate_per_s: float
    """Mean arrivals a second."""
    digest: str = ""
    """Of the trace; empty where a load is read from a table."""

    @property
    def key(self) -> LoadKey:
        """The load's part of a block's id."""
        return ("replay", None, None, self.digest)

    @property
    def warm_up(self) -> ClosedLoop:
        """How requests reach the engine before each window."""
        return ClosedLoop(concurrency=WARM_UP_CONCURRENCY)

    @property
    def is_single(self) -> bool:
        """Whether a request is alone on the GPU. Requests of a trace may meet."""
        return False

    def __str__(self) -> str:
        return f"a trace of {self.request_rate_per_s:.4g} requests/s"

    def columns(self) -> dict[str, Any]:
        """Return the load's columns of `tables.TRIALS`, by name. A trace has no burstiness that was asked for."""
        return _columns(request_rate_per_s_requested=self.request_rate_per_s)


Load = ClosedLoop | OpenLoop | Replay
"""Any kind of load."""

SINGLE = ClosedLoop(concurrency=1)
WARM_UP_CONCURRENCY = 8
"""Requests in flight while an open loop warms up: enough to put a load on the GPU, few enough for any engine."""

LOAD_COLUMNS = ("concurrency", "request_rate_per_s_requested", "capacity_fraction", "burstiness")
"""The columns that tell loads apart. A published table may lack them."""


def read_load(row: Mapping[str, Any]) -> Load | None:
    """Return the load of a row of `tables.TRIALS`, or of any table with its columns; None where it is unknown."""
    if row.get("concurrency") is not None:
        return ClosedLoop(concurrency=row["concurrency"])
    if row.get("request_rate_per_s_requested") is None and row.get("capacity_fraction") is None:
        return None
    if row["burstiness"] is None:
        return Replay(request_rate_per_s=row["request_rate_per_s_requested"])
    return OpenLoop(
        request_rate_per_s=row.get("request_rate_per_s_requested"),
        capacity_fraction=row.get("capacity_fraction"),
        burstiness=row["burstiness"],
    )


def _columns(**known: float | None) -> dict[str, Any]:
    return {name: known.get(name) for name in LOAD_COLUMNS}
