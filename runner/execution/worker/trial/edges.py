"""What is read at the edges of a window: throttle times, the power limit, processes, and the window's meters.

A trial's GPU and host enter; two `EdgeReading`s and `MeterReadings` leave. Next: `measure.py`.
"""

from dataclasses import dataclass, field

from runner.hardware.gpu import Gpu, GpuError, GpuLostError
from runner.hardware.host.meter import HostMeter
from runner.hardware.sensors.window_meters import WindowMeters
from runner.results.measurement import EdgeReading, HostEnergy, MeterReadings
from runner.spec.activity import UnitActivity

NOT_AT_THE_EDGES = "this engine does not tell when the window opens and closes among requests that arrive at a rate"


@dataclass
class WindowEdges:
    """Reads once when the window opens and once when it closes. A closed loop's window is its run.

    Args:
        gpu: of the trial.
        host: of the trial.
        host_idle_power_w: the host's power while the GPU was at rest.
        memory_power_reason: why the power of the memory is not read.
    """

    gpu: Gpu
    host: HostMeter
    host_idle_power_w: float | None
    memory_power_reason: str | None
    start: EdgeReading = field(default_factory=EdgeReading)
    end: EdgeReading = field(default_factory=EdgeReading)
    _meters: WindowMeters | None = None
    _readings: MeterReadings | None = None

    def read_next(self) -> None:
        """Read at the next edge: the first call opens the window, the second one closes it. Raises: GpuLostError."""
        if self._meters is None:
            self.read_start()
            self.open_meters()
        else:
            self.close_meters()
            self.read_end()

    def open_meters(self) -> None:
        """Read the meters when the window opens."""
        self._meters = WindowMeters(self.gpu, self.host)

    def close_meters(self) -> None:
        """Read the meters when the window closes."""
        assert self._meters is not None, "a window opens before it closes"
        self._readings = self._meters.finish(
            host_idle_power_w=self.host_idle_power_w, memory_power_reason=self.memory_power_reason
        )

    def read_start(self) -> None:
        """Read what is no meter when the window opens."""
        self.start = _read_edge(self.gpu)

    def read_end(self) -> None:
        """Read what is no meter when the window closes."""
        self.end = _read_edge(self.gpu)

    @property
    def meters(self) -> MeterReadings:
        """What the meters say of the window; null with a reason where they were not read at its edges."""
        if self._readings is not None:
            return self._readings
        return MeterReadings(
            activity=UnitActivity(activity_reason=NOT_AT_THE_EDGES),
            host=HostEnergy(reason=NOT_AT_THE_EDGES),
            memory_power_reason=self.memory_power_reason,
        )


def read_process_ids(gpu: Gpu) -> frozenset[int] | None:
    """Return the processes on the GPU; None where the NVIDIA driver does not list them. Raises: GpuLostError."""
    try:
        return frozenset(gpu.read_process_ids())
    except GpuLostError:
        raise
    except GpuError:
        return None


def _read_edge(gpu: Gpu) -> EdgeReading:
    throttled = gpu.read_throttle_times()
    return EdgeReading(
        power_limit_w=gpu.read_power_limit_w(),
        throttled_power_s=throttled.power_s,
        throttled_thermal_s=throttled.thermal_s,
        throttled_other_s=throttled.other_s,
        process_ids=read_process_ids(gpu),
    )
