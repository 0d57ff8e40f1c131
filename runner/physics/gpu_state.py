"""A simulated GPU's memory, on disk: its settings, what befalls it, and the log of what it did.

Whoever plays the silicon (the paced worker, the simulated engine) asks what a step does under the settings and
conditions in force, and appends activity; whoever plays the driver (`hardware/simulated.py`) changes the settings and
answers readings out of all three. The files outlive every process, as a driver's state does: a lock set here stays
until it is reset.

    DIR/settings.jsonl     one line a change: GpuSettings with the time it was made
    DIR/conditions.jsonl   one line a change: GpuConditions with the time from which they hold; none on a sound GPU
    DIR/activity.bin       one fixed-size record a step, append-only, in order of time
"""

import fcntl
import json
import os
import struct
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from runner.physics.gpu_model import GpuModel
from runner.physics.shape import ModelShape, StepWork
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason

STATE_DIR_VARIABLE = "SWEEP_SIMULATED_STATE"


def simulated_state_dir() -> Path:
    """Return the folder that holds every simulated GPU of this user on this machine (SWEEP_SIMULATED_STATE)."""
    default = Path(tempfile.gettempdir()) / f"joulesweep-{os.getuid()}" / "gpus"
    return Path(os.environ.get(STATE_DIR_VARIABLE) or default)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSettings(OperatingPoint):
    """The operating point that has been asked of the GPU from `time_ns` on."""

    time_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuConditions:
    """What befalls the GPU from `time_ns` on, whatever it is asked for; the defaults: a sound GPU, not shared."""

    time_ns: int
    ignores_locks: bool = False
    """Locks are taken with NVML_SUCCESS and the clocks run as if there were none; the power limit is kept."""
    max_sm_clock_mhz: int | None = None
    """A supported clock above which the SMs are not let, for heat as a rule; the memory clock is left alone."""
    slowdown_reasons: ThrottleReason = ThrottleReason.SOFTWARE_THERMAL
    """Why, while `max_sm_clock_mhz` holds a clock down."""
    foreign_power_w: float = 0.0
    """What another process's work draws, inside the power limit of the whole GPU."""
    foreign_slowdown: float = 1.0
    """How many times as long our steps take beside it."""
    foreign_process_ids: tuple[int, ...] = ()
    foreign_memory_bytes: int = 0

    def hold_down(self, sm_clock_mhz: int) -> tuple[int, ThrottleReason]:
        """Return the clock that runs where `sm_clock_mhz` would, in MHz, and why."""
        if self.max_sm_clock_mhz is None or sm_clock_mhz <= self.max_sm_clock_mhz:
            return sm_clock_mhz, ThrottleReason.NONE
        return self.max_sm_clock_mhz, self.slowdown_reasons


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One stretch in which the GPU worked: what it drew and how it was clocked."""

    start_ns: int
    end_ns: int
    power_w: float
    sm_clock_mhz: float
    mem_clock_mhz: float
    throttle_reasons: ThrottleReason


def effective_point(
    history: Sequence[GpuSettings], time_ns: int, settle_s: float, conditions: GpuConditions | None = None
) -> OperatingPoint:
    """Return the operating point in force at an instant: what was asked for at least `settle_s` before it.

    The one place that knows how settings take effect. `history` is oldest first, as `settings_history` returns it.
    """
    asked_by_ns = time_ns - round(settle_s * 1e9)
    asked = next((settings for settings in reversed(history) if settings.time_ns <= asked_by_ns), None)
    if asked is None:
        return OperatingPoint()
    if conditions is not None and conditions.ignores_locks:
        return OperatingPoint(power_limit_w=asked.power_limit_w)
    return OperatingPoint(
        sm_clock_mhz=asked.sm_clock_mhz, mem_clock_mhz=asked.mem_clock_mhz, power_limit_w=asked.power_limit_w
    )


_RECORD = struct.Struct("<qqfffI")


class GpuState:
    """The files of one simulated GPU. Safe for several processes: appends are single writes under a lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._settings_log = _JsonLines(directory / "settings.jsonl")
        self._settings: list[GpuSettings] = []
        self._conditions_log = _JsonLines(directory / "conditions.jsonl")
        self._conditions: list[GpuConditions] = []
        self._activity_path = directory / "activity.bin"
        self._activity_read_bytes = 0

    def settings_history(self) -> list[GpuSettings]:
        """Return every setting so far, oldest first; cheap when nothing has changed."""
        self._settings += [GpuSettings(**values) for values in self._settings_log.read_new()]
        return self._settings

    def change_settings(self, settings: GpuSettings) -> None:
        """Append a change; it holds from its own `time_ns` on."""
        self._settings_log.append(asdict(settings))

    def conditions_history(self) -> list[GpuConditions]:
        """Return every condition so far, those planned included, oldest first; cheap when nothing has changed."""
        for values in self._conditions_log.read_new():
            values["foreign_process_ids"] = tuple(values["foreign_process_ids"])
            if "slowdown_reasons" in values:
                values["slowdown_reasons"] = ThrottleReason(values["slowdown_reasons"])
            self._conditions.append(GpuConditions(**values))
        return self._conditions

    def conditions_at(self, time_ns: int) -> GpuConditions:
        """Return what befalls the GPU at an instant."""
        for conditions in reversed(self.conditions_history()):
            if conditions.time_ns <= time_ns:
                return conditions
        return GpuConditions(time_ns=0)

    def change_conditions(self, conditions: GpuConditions) -> None:
        """Append a change, in order of time; it holds from its own `time_ns` on, now or later, never in the past."""
        self._conditions_log.append(asdict(conditions))

    def point_at(self, gpu: GpuModel, time_ns: int) -> OperatingPoint:
        """Return the operating point in force at an instant, as far as settings and locks decide it."""
        return effective_point(self.settings_history(), time_ns, gpu.settle_s, self.conditions_at(time_ns))

    def execute_step(self, gpu: GpuModel, shape: ModelShape, work: StepWork, start_ns: int) -> Activity:
        """Return what the GPU does in a step that starts at an instant; whoever executes it logs it.

        Beside a foreign process a step takes longer, draws the same energy above idle, and shares the power limit.
        """
        point, conditions = self.point_at(gpu, start_ns), self.conditions_at(start_ns)
        sm_clock_mhz, reasons = conditions.hold_down(point.sm_clock_mhz or gpu.sm_clocks_mhz[-1])
        limit_w = (point.power_limit_w or gpu.power_limit_default_w) - conditions.foreign_power_w
        outcome = gpu.step(shape, work, replace(point, sm_clock_mhz=sm_clock_mhz, power_limit_w=max(limit_w, 1.0)))
        idle_w = gpu.idle_power_w(outcome.sm_clock_mhz, outcome.mem_clock_mhz)
        own_w = idle_w + (outcome.power_w - idle_w) / conditions.foreign_slowdown
        return Activity(
            start_ns=start_ns,
            end_ns=start_ns + round(outcome.duration_s * conditions.foreign_slowdown * 1e9),
            power_w=own_w + conditions.foreign_power_w,
            sm_clock_mhz=outcome.sm_clock_mhz,
            mem_clock_mhz=outcome.mem_clock_mhz,
            throttle_reasons=reasons | ThrottleReason.POWER_CAP if outcome.power_capped else reasons,
        )

    def log_activity(self, activities: Iterable[Activity]) -> None:
        """Append stretches of work, in order of time."""
        data = b"".join(
            _RECORD.pack(a.start_ns, a.end_ns, a.power_w, a.sm_clock_mhz, a.mem_clock_mhz, a.throttle_reasons)
            for a in activities
        )
        _append(self._activity_path, data)

    def read_new_activity(self) -> list[Activity]:
        """Return what was logged since the last call on this object, in order; cheap when nothing has happened."""
        if not _has_grown(self._activity_path, self._activity_read_bytes):
            return []
        with self._activity_path.open("rb") as file:
            file.seek(self._activity_read_bytes)
            data = file.read()
        whole = data[: len(data) - len(data) % _RECORD.size]
        self._activity_read_bytes += len(whole)
        return [
            Activity(
                start_ns=start,
                end_ns=end,
                power_w=power,
                sm_clock_mhz=sm,
                mem_clock_mhz=mem,
                throttle_reasons=ThrottleReason(reasons),
            )
            for start, end, power, sm, mem, reasons in _RECORD.iter_unpack(whole)
        ]


class _JsonLines:
    """One file of records, one JSON object a line, that several processes append to and read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def read_new(self) -> list[dict[str, Any]]:
        """Return what was appended since the last call on this object; cheap when nothing was."""
        if not _has_grown(self._path, self._read_bytes):
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, values: dict[str, Any]) -> None:
        """Append one record."""
        _append(self._path, json.dumps(values).encode() + b"\n")


def _has_grown(path: Path, num_bytes: int) -> bool:
    """Return whether a file is there and longer than what was read of it; asked at every step and every reading."""
    try:
        return os.stat(path).st_size > num_bytes
    except FileNotFoundError:
        return False


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data)
