"""A GPU's energy counter: readings in J, and the instants at which it ticks. Next: `sampler.py`."""

from runner.hardware.gpu import Gpu, GpuError, GpuLostError, NotSupportedError
from runner.timebase import TimeSource

POLL_S = 0.001
TICK_LIMIT_S = 0.25
"""The energy counter ticks every 100 ms. One that stands still for longer does not tick."""


class EnergyCounter:
    """The energy counter of one GPU. A GPU that has none is asked once only."""

    def __init__(self, gpu: Gpu, time_source: TimeSource) -> None:
        self._gpu = gpu
        self._time_source = time_source
        self._is_there = True
        self.num_failed_reads = 0

    def read_j(self) -> float | None:
        """Return what the counter shows; None where there is none, or where it could not be read.

        Raises: GpuLostError: the GPU no longer answers.
        """
        if not self._is_there:
            return None
        try:
            return self._gpu.read_energy_counter_j()
        except NotSupportedError:
            self._is_there = False
        except GpuLostError:
            raise
        except GpuError:
            self.num_failed_reads += 1
        return None

    def wait_for_tick(self) -> tuple[int, float] | None:
        """Wait until the counter ticks, and return when it did and what it shows then.

        Returns: ns since the epoch, midway between the last reading before the tick and the first after it, and J;
            None where the GPU has no counter, or one that stood still for a quarter of a second.
        Raises: GpuLostError: the GPU no longer answers.
        """
        before_j = self.read_j()
        before_ns = self._time_source.now_ns()
        limit_ns = before_ns + round(TICK_LIMIT_S * 1e9)
        while before_j is not None and before_ns < limit_ns:
            self._time_source.sleep(POLL_S)
            counter_j = self.read_j()
            now_ns = self._time_source.now_ns()
            if counter_j is None:
                return None
            if counter_j != before_j:
                return (before_ns + now_ns) // 2, counter_j
            before_ns = now_ns
        return None
