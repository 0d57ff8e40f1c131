"""One simulated GPU as its driver sees it: its identity, settings and history, and the readings of its sensors."""

import fcntl
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.hardware.simulated.history import GpuHistory
from runner.hardware.simulated.sensor_profiles import MS_NS, Habit, get_profile
from runner.physics.gpu_model import GpuModel
from runner.physics.gpu_state import GpuSettings, GpuState

TICK_NS = 100 * MS_NS
"""Period of the clocks, the throttle reasons and the throttle times."""
NUM_BUFFERED = 120
"""Length of the sample buffer."""
_SAMPLE_JITTER_NS = 600_000


class SimulatedGpu:
    """One simulated GPU: what a handle of `SimulatedNvml` points to.

    Its driver loads, and its energy counter starts at zero, when a process first opens it (`now_ns`). The first line of
    its settings keeps that time for every later process.
    """

    def __init__(self, model: GpuModel, sensors: str, index: int, state_dir: Path, now_ns: int) -> None:
        self.model = model
        self.sensors = get_profile(sensors)
        self.index = index
        self.uuid = _simulated_uuid(model, sensors, index)
        self.state = GpuState(state_dir / self.uuid)
        with self.locked():
            if not self.state.settings_history():
                self.state.change_settings(GpuSettings(time_ns=now_ns))
        self.loaded_ns = self.state.settings_history()[0].time_ns
        if self.loaded_ns > now_ns:
            raise ValueError(
                f"{self.state.directory} holds a GPU that was switched on later than now; "
                "use another folder (SWEEP_SIMULATED_STATE)"
            )
        self.history = GpuHistory(model, self.state.directory, self.loaded_ns, self.sensors.counter)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the GPU's settings."""
        with (self.state.directory / "driver.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def last_tick_ns(self, now_ns: int) -> int:
        """Return the last instant at which the clocks and the throttle reasons changed."""
        return self.loaded_ns + (now_ns - self.loaded_ns) // TICK_NS * TICK_NS

    def read_power(self, habit: Habit, now_ns: int) -> tuple[int, float]:
        """Return when a sensor's reading last changed, in ns since the epoch, and its value in W."""
        update_ns = self.loaded_ns + habit.last_update_ns(now_ns - self.loaded_ns)
        return update_ns, self.history.means_w([update_ns], habit.window_ns)[0]

    def read_memory_power(self, habit: Habit, now_ns: int) -> tuple[int, float]:
        """Return when the reading of the memory last changed, in ns since the epoch, and its value in W."""
        update_ns = self.loaded_ns + habit.last_update_ns(now_ns - self.loaded_ns)
        return update_ns, self.history.memory_mean_w(update_ns, habit.window_ns)

    def read_samples(self, habit: Habit, now_ns: int, after_ns: int) -> list[tuple[int, float]]:
        """Return the samples of the buffer after an instant: (ns since the epoch, W), oldest first."""
        newest = (now_ns - self.loaded_ns) // habit.period_ns
        if newest >= 0 and self._sample_ns(habit, newest) > now_ns:
            newest -= 1
        oldest = max(newest - NUM_BUFFERED + 1, 0, (after_ns - self.loaded_ns) // habit.period_ns)
        stamps_ns = [self._sample_ns(habit, k) for k in range(oldest, newest + 1)]
        stamps_ns = [stamp_ns for stamp_ns in stamps_ns if stamp_ns > after_ns]
        return list(zip(stamps_ns, self.history.means_w(stamps_ns, habit.window_ns), strict=True))

    def read_counter_j(self, habit: Habit, now_ns: int) -> float:
        """Return the value of the energy counter, in J since the driver loaded."""
        return self.history.counted_j(self.loaded_ns + habit.last_update_ns(now_ns - self.loaded_ns))

    def _sample_ns(self, habit: Habit, k: int) -> int:
        """Return when the k-th sample was taken, in whole µs: a period apart, with a jitter that depends only on k."""
        jitter_ns = zlib.crc32(k.to_bytes(8)) * _SAMPLE_JITTER_NS >> 32
        return (self.loaded_ns + k * habit.period_ns + jitter_ns) // 1000 * 1000


def _simulated_uuid(model: GpuModel, sensors: str, index: int) -> str:
    """Return the id of the index-th simulated GPU of a kind, the same in every process."""
    kind = model.name.upper().removeprefix("NVIDIA ")
    if sensors.upper() not in kind.replace(" ", ""):
        kind += f"-{sensors.upper()}"
    return f"GPU-SIM-{re.sub(r'[^A-Z0-9]+', '-', kind)}-{index}"
