"""The state of a simulated GPU, on disk: its settings, its conditions and the log of its activity.

The paced worker and the simulated engine ask what a step does under the settings and conditions in force, and append
activity. The simulated driver (`hardware/simulated/`) changes the settings, and computes its readings from all three.
The files outlive every process, as a driver's state does: a lock stays until it is reset.

    DIR/settings.jsonl     one line for each change: GpuSettings with the time of the change
    DIR/conditions.jsonl   one line for each change: GpuConditions with the time from which they hold; none by default
    DIR/activity-2.bin     one record of fixed size for each step, append-only, in order of time (2: their layout)
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

from runner.physics.gpu_model import AT_REST, GpuModel, StepParts
from runner.physics.shape import ModelShape, StepWork
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason

STATE_DIR_VARIABLE = "SWEEP_SIMULATED_STATE"


def simulated_state_dir() -> Path:
    """Return the folder of this user's simulated GPUs on this machine: SWEEP_SIMULATED_STATE, or a temporary one."""
    default = Path(tempfile.gettempdir()) / f"joulesweep-{os.getuid()}" / "gpus"
    return Path(os.environ.get(STATE_DIR_VARIABLE) or default)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSettings(OperatingPoint):
    """The operating point that has been asked of the GPU from `time_ns` on."""

    time_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuConditions:
    """What happens to the GPU from `time_ns` on, whatever its settings. By default it works well and is not shared."""

    time_ns: int
    ignores_locks: bool = False
    """A lock returns NVML_SUCCESS, but the clocks run as without it. The power limit still holds."""
    max_sm_clock_mhz: int | None = None
    """The highest SM clock that may run, usually because of heat. It is a supported clock."""
    slowdown_reasons: ThrottleReason = ThrottleReason.SOFTWARE_THERMAL
    """The throttle reasons while `max_sm_clock_mhz` holds a clock down."""
    foreign_power_w: float = 0.0
    """Power that another process draws. The power limit covers it too."""
    foreign_slowdown: float = 1.0
    """Factor by which our steps take longer beside that process."""
    foreign_process_ids: tuple[int, ...] = ()
    foreign_memory_bytes: int = 0

    def hold_down(self, sm_clock_mhz: int) -> tuple[int, ThrottleReason]:
        """Return the SM clock that runs instead of `sm_clock_mhz`, and the throttle reasons for it."""
        if self.max_sm_clock_mhz is None or sm_clock_mhz <= self.max_sm_clock_mhz:
            return sm_clock_mhz, ThrottleReason.NONE
        return self.max_sm_clock_mhz, self.slowdown_reasons


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One stretch of work: the power, the clocks, the throttle reasons, and what the parts of the GPU did."""

    start_ns: int
    end_ns: int
    power_w: float
    sm_clock_mhz: float
    mem_clock_mhz: float
    throttle_reasons: ThrottleReason
    parts: StepParts = AT_REST


def effective_point(
    history: Sequence[GpuSettings], time_ns: int, settle_s: float, conditions: GpuConditions | None = None
) -> OperatingPoint:
    """Return the operating point in force at an instant: the one requested at least `settle_s` before it.

    Only this function knows how settings take effect.

    Args:
        history: oldest first, as `settings_history` returns it.
    """
    asked_by_ns = time_ns - round(settle_s * 1e9)
    asked = next((settings for settings in reversed(history) if settings.time_ns <= asked_by_ns), None)
    if asked is None:
        return OperatingPoint()
    if conditions is not None and conditions.ignores_locks:
        return OperatingPoint(power_limit_w=asked.power_limit_w)
    return OperatingPoint(
        sm_clock_mhz=asked.sm_clock_mhz,
        mem_clock_mhz=asked.mem_clock_mhz,
        power_limit_w=asked.power_limit_w,
        sm_clock_is_ceiling=asked.sm_clock_is_ceiling,
    )


_RECORD = struct.Struct("<qqfffIffff")


class GpuState:
    """The files of one simulated GPU. Several processes may use them: each append is a single write under a lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._settings_log = _JsonLines(directory / "settings.jsonl")
        self._settings: list[GpuSettings] = []
        self._conditions_log = _JsonLines(directory / "conditions.jsonl")
        self._conditions: list[GpuConditions] = []
        self._activity_path = directory / "activity-2.bin"
        self._activity_read_bytes = 0

    def settings_history(self) -> list[GpuSettings]:
        """Return all settings so far, oldest first. This is cheap when nothing has changed."""
        self._settings += [GpuSettings(**values) for values in self._settings_log.read_new()]
        return self._settings

    def change_settings(self, settings: GpuSettings) -> None:
        """Append a change, which holds from its `time_ns` on."""
        self._settings_log.append(asdict(settings))

    def conditions_history(self) -> list[GpuConditions]:
        """Return all conditions, oldest first, with those planned for later. This is cheap when nothing has changed."""
        for values in self._conditions_log.read_new():
            values["foreign_process_ids"] = tuple(values["foreign_process_ids"])
            if "slowdown_reasons" in values:
                values["slowdown_reasons"] = ThrottleReason(values["slowdown_reasons"])
            self._conditions.append(GpuConditions(**values))
        return self._conditions

    def conditions_at(self, time_ns: int) -> GpuConditions:
        """Return the conditions at an instant."""
        for conditions in reversed(self.conditions_history()):
            if conditions.time_ns <= time_ns:
                return conditions
        return GpuConditions(time_ns=0)

    def change_conditions(self, conditions: GpuConditions) -> None:
        """Append a change, which holds from its `time_ns` on: now or later, and after all changes before."""
        self._conditions_log.append(asdict(conditions))

    def point_at(self, gpu: GpuModel, time_ns: int) -> OperatingPoint:
        """Return the operating point that the settings and conditions put in force at an instant."""
        return effective_point(self.settings_history(), time_ns, gpu.settle_s, self.conditions_at(time_ns))

    def execute_step(self, gpu: GpuModel, shape: ModelShape, work: StepWork, start_ns: int) -> Activity:
        """Return what the GPU does in a step that starts at an instant. The caller logs it with `log_activity`.

        Beside a foreign process a step takes longer, needs the same energy above idle, and shares the power limit.
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
            parts=outcome.parts.spread(conditions.foreign_slowdown, gpu.memory_rest_w(outcome.mem_clock_mhz)),
        )

    def log_activity(self, activities: Iterable[Activity]) -> None:
        """Append stretches of work, in order of time."""
        _append(self._activity_path, b"".join(_pack(activity) for activity in activities))

    def read_new_activity(self) -> list[Activity]:
        """Return the activity logged since the last call on this object, in order. This is cheap when there is none."""
        if not _has_grown(self._activity_path, self._activity_read_bytes):
            return []
        with self._activity_path.open("rb") as file:
            file.seek(self._activity_read_bytes)
            data = file.read()
        whole = data[: len(data) - len(data) % _RECORD.size]
        self._activity_read_bytes += len(whole)
        return [_make_activity(record) for record in _RECORD.iter_unpack(whole)]


def _pack(activity: Activity) -> bytes:
    parts = activity.parts
    return _RECORD.pack(
        activity.start_ns,
        activity.end_ns,
        activity.power_w,
        activity.sm_clock_mhz,
        activity.mem_clock_mhz,
        activity.throttle_reasons,
        parts.memory_power_w,
        parts.tensor_active_fraction,
        parts.dram_active_fraction,
        parts.sm_active_fraction,
    )


def _make_activity(record: tuple[Any, ...]) -> Activity:
    start_ns, end_ns, power_w, sm_mhz, mem_mhz, reasons, memory_power_w, tensor, dram, sm = record
    return Activity(
        start_ns=start_ns,
        end_ns=end_ns,
        power_w=power_w,
        sm_clock_mhz=sm_mhz,
        mem_clock_mhz=mem_mhz,
        throttle_reasons=ThrottleReason(reasons),
        parts=StepParts(
            memory_power_w=memory_power_w,
            tensor_active_fraction=tensor,
            dram_active_fraction=dram,
            sm_active_fraction=sm,
        ),
    )


class _JsonLines:
    """A file with one JSON object on each line. Several processes append to it, and read it as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def read_new(self) -> list[dict[str, Any]]:
        """Return the records appended since the last call on this object. This is cheap when there are none."""
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
    """Return whether a file holds more than `num_bytes`. Every step and every reading asks this."""
    try:
        return os.stat(path).st_size > num_bytes
    except FileNotFoundError:
        return False


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(data)
