"""What the engine and its client process tell each other, pickled, over a pair of sockets."""

from dataclasses import dataclass

from runner.inference.arrivals import Arrivals
from runner.inference.engine import Sampling
from runner.inference.server.bodies import BodyMaker
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion, Request


@dataclass(frozen=True, slots=True)
class Ready:
    """The client has started and waits for its first run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOrder:
    """Starts a run. The engine then answers each `Wanted` with a `Supply`."""

    url: str
    """Of the server, without a path."""
    maker: BodyMaker
    load: ClosedLoop | Arrivals
    sampling: Sampling
    deadline_s: float | None
    request_limit_s: float | None
    reports_progress: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """The client could hand in so many more requests."""

    num_requests: int


@dataclass(frozen=True, slots=True)
class Supply:
    """The requests that were wanted, each with its prompt's text where the server takes no token ids.

    Fewer than wanted: they were the last ones.
    """

    requests: tuple[tuple[Request, str | None], ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """Withdraw what is in flight, and report."""

    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is."""

    num_requests: int
    num_output_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """What one run did. Times are ns since the epoch."""

    start_ns: int
    end_ns: int
    completions: list[Completion]
    """In the order in which they ended."""
    failure: str | None = None
    """Why the run as a whole has no result, such as a server that is gone."""
