"""When an engine may be handed requests: as places become free, or as requests arrive.

The vLLM engine and the simulated engine ask the same objects.
"""

from runner.inference.arrivals import Arrivals
from runner.spec.load import ClosedLoop


class Admission:
    """Decides how many requests of a closed loop may be handed in. Only the number in flight matters."""

    def __init__(self, load: ClosedLoop) -> None:
        self._concurrency = load.concurrency

    def num_admissible(self, num_in_flight: int) -> int:
        """Return how many requests may be handed in now, beside those in flight; 0 or less for none."""
        return self._concurrency - num_in_flight


class ArrivalAdmission:
    """Decides when the next request of an open loop is due, and when the run is over."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._num_left = len(arrivals.window)
        self._num_arrived = 0

    @property
    def next_s(self) -> float:
        """When the next request arrives, in s from the start of the run."""
        return self._arrivals.time_s(self._num_arrived)

    def arrive(self) -> tuple[float, bool]:
        """Take the next request: when it arrives in s from the start of the run, and whether that is in the window."""
        arrival = self.next_s, self._arrivals.is_in_window(self._num_arrived)
        self._num_arrived += 1
        return arrival

    def end(self, *, in_window: bool) -> None:
        """Take note that a request has ended, and whether it arrived in the window."""
        self._num_left -= in_window

    def is_over(self, elapsed_s: float) -> bool:
        """Return whether the window has closed and its requests have ended, or the limit is reached."""
        window_is_closed = elapsed_s >= self._arrivals.edges_s[1]
        return (window_is_closed and self._num_left <= 0) or elapsed_s >= self._arrivals.limit_s
