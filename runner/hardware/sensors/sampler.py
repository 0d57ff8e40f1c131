"""PowerSampler: reads a GPU's power, clocks, temperature and energy counter while a trial runs.

A `Gpu` and a time source enter. Frames of the power table (`tables.POWER`) leave: once a second for the display, and
all of a trial for `analysis`.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import polars as pl

from runner.hardware.gpu import Gpu, GpuError, GpuLostError, NotSupportedError, StateReading
from runner.hardware.sensors.counter import EnergyCounter
from runner.hardware.sensors.memory_power import MemoryPower
from runner.hardware.sensors.power_rows import PowerRows
from runner.hardware.sensors.reader import POLL_S, PowerReader
from runner.results.sensors import SensorFindings
from runner.timebase import TimeSource, VirtualTime

TICK_S = 0.1
"""Period of readings of clocks, temperature and throttle reasons. The driver refreshes them no faster."""
POLLS_PER_TICK = round(TICK_S / POLL_S)
TICKS_PER_DRAIN = 5
"""The driver's buffer holds 2.4 s, so a drain may come almost two seconds late and lose nothing."""
TICKS_PER_BATCH = 10
STATES_KEPT = 300
"""Half a minute of state readings, for settling."""
COVER_POLL_S = 0.01
COVER_LIMIT_S = 2.0
SET_BACK_S = 1.0
"""No reading has a stamp so far ahead. If the newest one has, the machine's time has been set back since."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerStats:
    """How well the sampling has gone since its start."""

    num_samples: int
    num_lost: int
    """Power samples that the driver's buffer dropped before a drain, estimated from the period of the others."""
    num_failed_reads: int
    """Readings that failed, or that lacked one of their values."""
    max_lateness_s: float
    """The longest delay with which the thread woke."""
    sample_period_s: float | None
    """Median time between the driver's power samples; None before there were any."""


class PowerSampler:
    """Samples one GPU from `start` to `stop`: a thread in real time, a periodic callback in virtual time.

    Args:
        gpu: the GPU.
        time_source: what tells the time. With `VirtualTime` no thread starts.
        on_batch: called about once a second, on the sampling thread, with what was read since its last call.
        sensors: what a probe found, which decides the power reading; by default the sample buffer is read.
    """

    def __init__(
        self,
        gpu: Gpu,
        time_source: TimeSource,
        on_batch: Callable[[pl.DataFrame], None] | None = None,
        sensors: SensorFindings | None = None,
    ) -> None:
        self._gpu = gpu
        self._sensors = sensors
        self._reader = PowerReader(gpu, sensors)
        self._time_source = time_source
        self._rows = PowerRows(gpu.info.uuid, on_batch)
        self._draining = threading.RLock()
        self._states: deque[StateReading] = deque(maxlen=STATES_KEPT)
        self._num_beats = self._num_ticks = 0
        self._last_sample_ns = 0
        self._period_ns = self._reader.period_ns
        self._num_samples = self._num_lost = self._num_failed_reads = 0
        self._max_lateness_s = 0.0
        self._counter = EnergyCounter(gpu, time_source)
        self._memory = MemoryPower(gpu, time_source, self._rows)
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._cancel: Callable[[], None] | None = None

    @property
    def error(self) -> Exception | None:
        """Why the sampling ended before `stop`: a lost GPU, or an error of `on_batch`; None while it runs."""
        return self._error

    @property
    def sensors(self) -> SensorFindings | None:
        """What a probe found of the GPU's sensors."""
        return self._sensors

    @property
    def reach_s(self) -> float:
        """How long before its stamp the interval of a power reading may begin."""
        return self._reader.reach_ns * 1e-9

    @property
    def memory_power_reason(self) -> str | None:
        """Why the power of the GPU's memory was not read; None where the last reading succeeded."""
        return self._memory.reason

    @property
    def stats(self) -> SamplerStats:
        """How well the sampling has gone so far."""
        return SamplerStats(
            num_samples=self._num_samples,
            num_lost=self._num_lost,
            num_failed_reads=self._num_failed_reads + self._counter.num_failed_reads + self._memory.num_failed_reads,
            max_lateness_s=self._max_lateness_s,
            sample_period_s=None if self._period_ns is None else self._period_ns * 1e-9,
        )

    def states_since(self, time_ns: int) -> list[StateReading]:
        """Return the state readings later than an instant, oldest first. This is cheap, and keeps them for `take`."""
        return [state for state in tuple(self._states) if state.time_ns > time_ns]

    def start(self) -> None:
        """Begin. Samples from before this moment are not taken."""
        self._last_sample_ns = self._time_source.now_ns()
        if isinstance(self._time_source, VirtualTime):
            self._cancel = self._time_source.every(POLL_S, self._beat_safely)
        else:
            self._thread = threading.Thread(target=self._run, name="power-sampler", daemon=True)
            self._thread.start()

    def use(self, sensors: SensorFindings) -> None:
        """Go on with better findings. Where they name another power source, earlier readings are dropped.

        It then waits until the new source has covered this moment, so it must not be called in a window.
        """
        with self._draining:
            before, self._reader = self._reader, PowerReader(self._gpu, sensors)
            self._sensors, self._period_ns = sensors, self._reader.period_ns
            is_another = self._reader.source != before.source
            if is_another:
                self._rows.clear()
                self._last_sample_ns = self._time_source.now_ns()
        if is_another:
            self.wait_covered(self._time_source.now_ns())

    def stop(self) -> None:
        """End, after a last drain. What was sampled stays for `take`."""
        self._stopping.set()
        if self._cancel is not None:
            self._cancel()
        if self._thread is not None:
            self._thread.join()
        if self._error is None:
            self._drain()
            self._rows.send_batch()

    def take(self) -> pl.DataFrame:
        """Return everything since the last call: [num_rows] rows of `tables.POWER`, sorted by time_ns."""
        with self._draining:  # a drain's readings come together
            return self._rows.take()

    def look_back(self, time_ns: int) -> pl.DataFrame:
        """Return what was read since an instant, and keep it for `take`: [num_rows] rows of `tables.POWER`."""
        with self._draining:
            return self._rows.look_back(time_ns)

    def mark_counter_tick(self) -> tuple[int, float] | None:
        """Wait until the energy counter ticks, which usually takes 100 ms at most.

        Returns: when it ticked, in ns since the epoch, and what it shows then, in J; None where the counter does not
            tick, or where the GPU was lost.
        """
        try:
            tick = self._counter.wait_for_tick()
        except GpuLostError as error:
            self._error = error
            return None
        if tick is not None:
            self._rows.add_counter(*tick)
        return tick

    def wait_covered(self, time_ns: int) -> bool:
        """Wait until the readings tell the energy up to `time_ns` from the energy after it.

        That takes a power reading whose interval begins after `time_ns`; with a counter alone, one more tick.

        Args:
            time_ns: not later than now.
        Returns: False if the reading is two seconds overdue.
        """
        covered_ns = time_ns + self._reader.reach_ns
        limit_ns = self._time_source.now_ns() + self._reader.reach_ns + round(COVER_LIMIT_S * 1e9)
        while self._reader.source is not None and self._error is None and self._time_source.now_ns() < limit_ns:
            self._drain()
            if self._last_sample_ns > covered_ns:
                return True
            self._time_source.sleep(COVER_POLL_S)
        return self._reader.source is None and self._error is None and self.mark_counter_tick() is not None

    def wait_memory_covered(self, time_ns: int) -> None:
        """Wait until the power of the GPU's memory is known up to `time_ns`, where the GPU tells it."""
        try:
            self._memory.wait_past(time_ns)
        except GpuLostError as error:
            self._error = error

    def _run(self) -> None:
        """Beat at start + k periods, however long a beat takes, until `stop` or an error."""
        deadline_ns = self._time_source.now_ns()
        period_ns = round(POLL_S * 1e9)
        while self._error is None:
            late_ns = self._time_source.now_ns() - deadline_ns
            self._max_lateness_s = max(self._max_lateness_s, late_ns * 1e-9)
            self._beat_safely()
            now_ns = self._time_source.now_ns()
            deadline_ns += period_ns * max(1, -(-(now_ns - deadline_ns) // period_ns))
            deadline_ns = min(deadline_ns, now_ns + period_ns)  # the machine's time may have been set back
            if self._stopping.wait(max(deadline_ns - now_ns, 0) * 1e-9):
                return

    def _beat_safely(self) -> None:
        """Poll, and tick where a tick is due. An error ends the sampling and is kept in `error`."""
        if self._error is not None:
            return
        self._num_beats += 1
        try:
            if self._reader.is_polled:
                self._drain()
            if self._num_beats % POLLS_PER_TICK == 0:
                self._tick()
        except Exception as error:
            self._error = error

    def _tick(self) -> None:
        self._num_ticks += 1
        self._read_state()
        self._memory.read()
        if not self._reader.is_polled and self._num_ticks % TICKS_PER_DRAIN == 0:
            self._drain()
        if self._num_ticks % TICKS_PER_BATCH == 0:
            self._read_counter()
            self._rows.send_batch()

    def _read_counter(self) -> None:
        try:
            counter_j = self._counter.read_j()
        except GpuLostError as error:
            self._error = error
            return
        if counter_j is not None:
            self._rows.add_counter(self._time_source.now_ns(), counter_j)

    def _read_state(self) -> None:
        try:
            state = self._gpu.read_state()
        except GpuLostError:
            raise
        except GpuError:
            self._num_failed_reads += 1
            return
        self._states.append(state)
        if None in (state.sm_clock_mhz, state.mem_clock_mhz, state.temperature_c, state.throttle_reasons):
            self._num_failed_reads += 1
        self._rows.add_state(state)

    def _drain(self) -> None:
        """Take the new power readings. The sampling thread and a waiting caller both use this."""
        with self._draining:
            if self._last_sample_ns > (now_ns := self._time_source.now_ns()) + SET_BACK_S * 1e9:
                self._last_sample_ns = now_ns
            try:
                readings = self._reader.read(self._last_sample_ns)
            except NotSupportedError:
                self._reader.source = None
                return
            except GpuLostError as error:
                self._error = error
                return
            except GpuError:
                self._num_failed_reads += 1
                return
            if not readings:
                return
            self._count_lost([reading.time_ns for reading in readings])
            self._num_samples += len(readings)
            self._rows.add_power(readings)
            self._last_sample_ns = readings[-1].time_ns

    def _count_lost(self, times_ns: list[int]) -> None:
        """Compare the time since the last drain's newest sample with the time between the samples of a drain."""
        if len(times_ns) > 2:
            self._period_ns = median(b - a for a, b in pairwise(times_ns))
        if self._num_samples and self._period_ns:
            gap_ns = times_ns[0] - self._last_sample_ns
            if gap_ns > 2 * self._period_ns:
                self._num_lost += round(gap_ns / self._period_ns) - 1
