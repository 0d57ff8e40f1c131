"""The power of a GPU's memory: readings for the trace, and why there are none. Next: `sampler.py`."""

from runner.hardware.gpu import Gpu, GpuError, GpuLostError, NotSupportedError
from runner.hardware.sensors.power_rows import PowerRows
from runner.timebase import TimeSource

WAIT_POLL_S = 0.01
WAIT_LIMIT_S = 0.5
"""A reading changes every 100 ms, and may be shown 100 ms late."""


class MemoryPower:
    """What the memory of one GPU draws. A GPU that does not tell its memory from the rest is asked once only.

    Args:
        rows: takes the readings.
    """

    def __init__(self, gpu: Gpu, time_source: TimeSource, rows: PowerRows) -> None:
        self._gpu, self._time_source, self._rows = gpu, time_source, rows
        self._is_there = True
        self._last_ns = 0
        self.num_failed_reads = 0
        self.reason: str | None = "the power of the memory has not been read yet"
        """Why the last reading failed; None after one that succeeded."""

    def read(self) -> None:
        """Add a reading to the rows, where there is one and it is another one than before.

        Raises: GpuLostError: the GPU no longer answers.
        """
        if not self._is_there:
            return
        try:
            reading = self._gpu.read_memory_power()
        except NotSupportedError as error:
            self._is_there, self.reason = False, f"the GPU does not tell its memory from the rest ({error})"
            return
        except GpuLostError:
            raise
        except GpuError as error:
            self.num_failed_reads, self.reason = self.num_failed_reads + 1, str(error)
            return
        self.reason = None
        if reading.time_ns != self._last_ns:
            self._last_ns = reading.time_ns
            self._rows.add_memory_power(reading)

    def wait_past(self, time_ns: int) -> None:
        """Read until a reading has a later stamp than `time_ns`, which usually takes 100 ms at most.

        Raises: GpuLostError: the GPU no longer answers.
        """
        limit_ns = self._time_source.now_ns() + round(WAIT_LIMIT_S * 1e9)
        self.read()
        while self._is_there and self._last_ns <= time_ns and self._time_source.now_ns() < limit_ns:
            self._time_source.sleep(WAIT_POLL_S)
            self.read()
