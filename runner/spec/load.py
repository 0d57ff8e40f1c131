"""How requests reach the engine while a window is open.

A sweep file's axes enter, a `Load` leaves. Trials, engines, verdicts and tables take a `Load`. Another kind of load
needs a class here, and changes where code asks which kind it is. Next: `trial.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedLoop:
    """A constant number of requests in flight: when one ends, the next one starts."""

    concurrency: int
    """Requests in flight, >= 1."""

    @property
    def key(self) -> int:
        """The load's part of a block's id."""
        return self.concurrency

    @property
    def num_warmup_requests(self) -> int:
        """Requests before each window, where the sweep file gives no number."""
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
"""Any kind of load."""

SINGLE = ClosedLoop(concurrency=1)

LOAD_COLUMNS = ("concurrency",)
"""The columns that tell loads apart. A published table may lack them."""


def read_load(row: Mapping[str, Any]) -> Load | None:
    """Return the load of a row of `tables.TRIALS`, or of any table with its columns; None where it is unknown."""
    return None if row["concurrency"] is None else ClosedLoop(concurrency=row["concurrency"])
