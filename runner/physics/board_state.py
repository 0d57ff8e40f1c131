"""A simulated board's memory, on disk: its settings, and the log of what it did.

Whoever plays the silicon (the paced worker, the simulated engine) reads the settings and appends activity; whoever
plays the driver (`hardware/simulated.py`) changes the settings and answers readings out of both. The files outlive
every process, as a driver's state does: a lock set here stays until it is reset.

    DIR/settings.jsonl   one line a change: BoardSettings with the time it was made
    DIR/activity.bin     one fixed-size record a step, append-only, in order of time
"""

import fcntl
import json
import os
import struct
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.physics.board import OperatingPoint

STATE_DIR_VARIABLE = "SWEEP_SIMULATED_STATE"


def simulated_state_dir() -> Path:
    """Return the folder that holds every simulated board of this user on this machine (SWEEP_SIMULATED_STATE)."""
    default = Path(tempfile.gettempdir()) / f"joulesweep-{os.getuid()}" / "boards"
    return Path(os.environ.get(STATE_DIR_VARIABLE) or default)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardSettings:
    """What has been asked of the board from `time_ns` on; None is the board's default."""

    time_ns: int
    sm_clock_mhz: int | None = None
    mem_clock_mhz: int | None = None
    power_limit_w: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One stretch in which the board worked: what it drew and how it was clocked."""

    start_ns: int
    end_ns: int
    power_w: float
    sm_clock_mhz: float
    mem_clock_mhz: float
    event_reasons: int


def effective_point(history: Sequence[BoardSettings], time_ns: int, settle_s: float) -> OperatingPoint:
    """Return the operating point in force at an instant: what was asked for at least `settle_s` before it.

    The one place that knows how settings take effect. `history` is oldest first, as `settings_history` returns it.
    """
    asked_by_ns = time_ns - round(settle_s * 1e9)
    for settings in reversed(history):
        if settings.time_ns <= asked_by_ns:
            return OperatingPoint(
                sm_clock_mhz=settings.sm_clock_mhz,
                mem_clock_mhz=settings.mem_clock_mhz,
                power_limit_w=settings.power_limit_w,
            )
    return OperatingPoint()


_RECORD = struct.Struct("<qqfffI")


class BoardState:
    """The files of one simulated board. Safe for several processes: appends are single writes under a lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._settings_path = directory / "settings.jsonl"
        self._activity_path = directory / "activity.bin"
        self._settings: list[BoardSettings] = []
        self._settings_read_bytes = 0
        self._activity_read_bytes = 0

    def settings_history(self) -> list[BoardSettings]:
        """Return every setting so far, oldest first; cheap when nothing has changed."""
        try:
            size = self._settings_path.stat().st_size
        except FileNotFoundError:
            return self._settings
        if size > self._settings_read_bytes:
            with self._settings_path.open("rb") as file:
                file.seek(self._settings_read_bytes)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._settings += [BoardSettings(**json.loads(line)) for line in whole.splitlines()]
            self._settings_read_bytes += len(whole)
        return self._settings

    def settings_at(self, time_ns: int) -> BoardSettings:
        """Return the settings in force at an instant."""
        for settings in reversed(self.settings_history()):
            if settings.time_ns <= time_ns:
                return settings
        return BoardSettings(time_ns=0)

    def change_settings(self, settings: BoardSettings) -> None:
        """Append a change; it holds from its own `time_ns` on."""
        self._append(self._settings_path, json.dumps(asdict(settings)).encode() + b"\n")

    def log_activity(self, activities: Iterable[Activity]) -> None:
        """Append stretches of work, in order of time."""
        data = b"".join(
            _RECORD.pack(a.start_ns, a.end_ns, a.power_w, a.sm_clock_mhz, a.mem_clock_mhz, a.event_reasons)
            for a in activities
        )
        self._append(self._activity_path, data)

    def read_new_activity(self) -> list[Activity]:
        """Return what was logged since the last call on this object, in order; cheap when nothing has happened."""
        try:
            if self._activity_path.stat().st_size <= self._activity_read_bytes:
                return []
        except FileNotFoundError:
            return []
        with self._activity_path.open("rb") as file:
            file.seek(self._activity_read_bytes)
            data = file.read()
        whole = data[: len(data) - len(data) % _RECORD.size]
        self._activity_read_bytes += len(whole)
        return [
            Activity(
                start_ns=start, end_ns=end, power_w=power, sm_clock_mhz=sm, mem_clock_mhz=mem, event_reasons=reasons
            )
            for start, end, power, sm, mem, reasons in _RECORD.iter_unpack(whole)
        ]

    @staticmethod
    def _append(path: Path, data: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
