"""SensorWatch: reads all power and energy sensors of a GPU faster than they change, while something else runs.

A `Gpu` and a time source enter, series of readings leave. It sets nothing. Next: `probe.py` makes findings of them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np

from runner.hardware.gpu import Gpu, GpuError, GpuInfo, GpuLostError, PowerReading
from runner.hardware.sensors.series import Updates, find_updates
from runner.results.sensors import SensorFinding, SensorName
from runner.timebase import TimeSource, VirtualTime

POLL_S = 0.005
POLLS_PER_COUNTER_READ = 2
"""A call of the energy counter takes about 3 ms."""
POLLS_PER_DRAIN = 100
SAME_SAMPLE_NS = 1_000_000
"""A driver may stamp the same sample some us later or earlier when it is asked again, as an H200 does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedSensors:
    """The readings of a GPU's sensors."""

    info: GpuInfo
    sensors: dict[SensorName, SensorFinding]
    """Which sensors there are, and how long a call takes. Periods and windows are not known yet."""
    updates: dict[SensorName, Updates]
    """The distinct readings of each sensor, with stamps in s since the watch began."""


class SensorWatch:
    """Watches from `start` to `stop`: a thread in real time, a periodic callback in virtual time.

    As a context manager it starts at the beginning, and always ends at the end.
    """

    def __init__(self, gpu: Gpu, time_source: TimeSource) -> None:
        self._gpu = gpu
        self._time_source = time_source
        self._start_ns = time_source.now_ns()
        self._series: dict[SensorName, _Series] = {
            "instant": _Series(gpu.read_instant_power, time_source),
            "average": _Series(gpu.read_average_power, time_source),
            "counter": _Series(lambda: _read_counter(gpu, time_source), time_source),
        }
        self._buffer = _Buffer(gpu, time_source)
        self._num_polls = 0
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._cancel: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin."""
        if isinstance(self._time_source, VirtualTime):
            self._cancel = self._time_source.every(POLL_S, self._poll)
        else:
            self._thread = threading.Thread(target=self._run, name="sensor-watch", daemon=True)
            self._thread.start()

    def stop(self) -> WatchedSensors:
        """End, and return the readings. Nothing reads the GPU any more once this returns or raises.

        Raises: GpuLostError: the GPU no longer answered.
        """
        self._end()
        if self._error is not None:
            raise self._error
        self._buffer.drain()
        series: dict[SensorName, _Buffer | _Series] = {"samples": self._buffer, **self._series}
        return WatchedSensors(
            info=self._gpu.info,
            sensors={name: one.finding() for name, one in series.items()},
            updates={name: one.updates(self._start_ns) for name, one in series.items()},
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._cancel()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """Poll at least once, however short the watch. A sensor that was never asked would seem to be missing."""
        while self._error is None:
            self._poll()
            if self._stopping.wait(POLL_S):
                return

    def _poll(self) -> None:
        """Read what is due. An error ends the watch and is kept for `stop`."""
        if self._error is not None:
            return
        try:
            self._series["instant"].poll()
            self._series["average"].poll()
            if self._num_polls % POLLS_PER_COUNTER_READ == 0:
                self._series["counter"].poll()
            if self._num_polls % POLLS_PER_DRAIN == 0:
                self._buffer.drain()
        except Exception as error:
            self._error = error
        self._num_polls += 1


class _Series:
    """The polled readings of one sensor, and the times of the calls."""

    def __init__(self, read: Callable[[], PowerReading], time_source: TimeSource) -> None:
        self._read = read
        self._time_source = time_source
        self._polls: list[tuple[int, int, float]] = []
        self._costs_us: list[float] = []
        self._error: GpuError | None = None

    def poll(self) -> None:
        """Ask once. A sensor that never answered is not asked again."""
        if self._error is not None and not self._polls:
            return
        began_s = time.perf_counter()
        try:
            reading = self._read()
        except GpuLostError:
            raise
        except GpuError as error:
            self._error = error
            return
        self._costs_us.append((time.perf_counter() - began_s) * 1e6)
        self._polls.append((self._time_source.now_ns(), reading.time_ns, reading.power_w))

    def updates(self, start_ns: int) -> Updates:
        """Return the distinct readings, with stamps in s since `start_ns`."""
        polled = np.array([(poll[0] - start_ns, poll[1] - start_ns) for poll in self._polls], dtype=float).reshape(
            -1, 2
        )
        values = np.array([poll[2] for poll in self._polls])
        return find_updates(polled[:, 0] * 1e-9, polled[:, 1] * 1e-9, values)

    def finding(self) -> SensorFinding:
        """Return whether the sensor is there, and how long a call takes."""
        if not self._polls:
            return SensorFinding(supported=False, reason=str(self._error or "it was never asked"))
        return SensorFinding(supported=True, call_us=_median_cost(self._costs_us, self._time_source))


class _Buffer:
    """The driver's buffer of power samples."""

    def __init__(self, gpu: Gpu, time_source: TimeSource) -> None:
        self._gpu = gpu
        self._time_source = time_source
        self._samples: dict[int, float] = {}
        self._costs_us: list[float] = []
        self._length = 0
        self._error: GpuError | None = None

    def drain(self) -> None:
        """Read the whole buffer, which shows its length. Raises: GpuLostError."""
        began_s = time.perf_counter()
        try:
            readings = self._gpu.read_power_samples(0)
        except GpuLostError:
            raise
        except GpuError as error:
            self._error = error
            return
        self._costs_us.append((time.perf_counter() - began_s) * 1e6)
        self._length = max(self._length, len(readings))
        newest_ns = max(self._samples, default=0)
        self._samples |= {r.time_ns: r.power_w for r in readings if r.time_ns > newest_ns + SAME_SAMPLE_NS}

    def updates(self, start_ns: int) -> Updates:
        """Return the samples, with stamps in s since `start_ns`."""
        stamps = sorted(self._samples)
        times_s = np.array([stamp - start_ns for stamp in stamps], dtype=float) * 1e-9
        return Updates(times_s, np.array([self._samples[stamp] for stamp in stamps]))

    def finding(self) -> SensorFinding:
        """Return whether the buffer is there, its length, and how long a call takes."""
        if not self._samples:
            return SensorFinding(supported=False, reason=str(self._error or "the driver's buffer stayed empty"))
        cost_us = _median_cost(self._costs_us, self._time_source)
        return SensorFinding(supported=True, buffer_length=self._length, call_us=cost_us)


def _read_counter(gpu: Gpu, time_source: TimeSource) -> PowerReading:
    """Return a reading of the energy counter in the form of the other series, with J in place of W."""
    return PowerReading(time_ns=time_source.now_ns(), power_w=gpu.read_energy_counter_j())


def _median_cost(costs_us: list[float], time_source: TimeSource) -> float | None:
    return None if isinstance(time_source, VirtualTime) else round(median(costs_us), 1)
