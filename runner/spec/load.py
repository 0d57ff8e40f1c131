"""How requests come to an engine while a window is open.

A sweep file's axes enter; a `Load` leaves. Trials, engines, verdicts and tables take a `Load`, so that another kind of
load needs a class here and the places that ask which one it is. Next: `trial.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedLoop:
    """A constant number of requests in flight: each that ends is followed by the next one."""

    concurrency: int
    """Requests in flight, >= 1."""

    @property
    def key(self) -> int:
        """What a block's id is made of, beside its model and its task."""
        return self.concurrency

    @property
    def num_warmup_requests(self) -> int:
        """Requests before each window, unless the sweep file says how many."""
        return self.concurrency

    @property
    def is_single(self) -> bool:
        """Whether a request is alone on the GPU, so that its own energy can be measured."""
        return self.concurrency == 1

    def __str__(self) -> str:
        return f"{self.concurrency} in flight"

    def columns(self) -> dict[str, Any]:
        """Return the load's columns of `tables.TRIALS`, by name."""
        return {"concurrency": self.concurrency}


Load = ClosedLoop
"""Every kind of load there is."""

SINGLE = ClosedLoop(concurrency=1)

LOAD_COLUMNS = ("concurrency",)
"""What tells loads apart in tables. A published table may lack them."""


def read_load(row: Mapping[str, Any]) -> Load | None:
    """Return the load of a row of `tables.TRIALS`, or of any table with its columns; None where it is unknown."""
    return None if row["concurrency"] is None else ClosedLoop(concurrency=row["concurrency"])
