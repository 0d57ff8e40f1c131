"""What is read once at each edge of a window: the activity counters of the GPU and the energy counters of the host.

A `Gpu` and a `HostMeter` enter when the window opens. `MeterReadings` leave when it has closed.
"""

from runner.hardware.gpu import ActivityMark, Gpu, GpuError, GpuLostError
from runner.hardware.host.meter import HostMeter
from runner.results.measurement import MeterReadings
from runner.spec.activity import UnitActivity


class WindowMeters:
    """The meters of one window. Making it is the reading at the start.

    Raises: GpuLostError: the GPU no longer answers.
    """

    def __init__(self, gpu: Gpu, host: HostMeter) -> None:
        self._gpu, self._host = gpu, host
        self._mark = _mark(gpu)
        self._host_start = host.read()

    def finish(self, *, host_idle_power_w: float | None, memory_power_reason: str | None) -> MeterReadings:
        """Read at the end of the window, and return what lies between.

        Args:
            host_idle_power_w: the host's power while the GPU was at rest.
            memory_power_reason: why the power of the memory was not read, as the sampler knows.
        Raises: GpuLostError: the GPU no longer answers.
        """
        host_end = self._host.read()
        mark = _mark(self._gpu)
        return MeterReadings(
            activity=self._compare_marks(self._mark, mark),
            host=self._host.compare(self._host_start, host_end, host_idle_power_w),
            memory_power_reason=memory_power_reason,
        )

    def _compare_marks(self, first: ActivityMark | GpuError, last: ActivityMark | GpuError) -> UnitActivity:
        for mark in (first, last):
            if isinstance(mark, GpuError):
                return UnitActivity(activity_reason=str(mark))
        assert isinstance(first, ActivityMark)
        assert isinstance(last, ActivityMark)
        try:
            return self._gpu.read_activity(first, last)
        except GpuLostError:
            raise
        except GpuError as error:
            return UnitActivity(activity_reason=str(error))


def _mark(gpu: Gpu) -> ActivityMark | GpuError:
    try:
        return gpu.mark_activity()
    except GpuLostError:
        raise
    except GpuError as error:
        return error
