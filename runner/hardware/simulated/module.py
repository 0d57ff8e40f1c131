"""SimulatedNvml stands in for the `pynvml` module: its functions, constants, structures and errors, a driver's habits.

`NvmlGpu` itself is thereby what runs and is tested on a machine without a board. Every reading is a pure function of
the board's log of activity, its settings and the clock that is passed in; nothing is random, and two processes that
read at the same instant agree. Where a driver quantises, averages or looks away, so does this module, by the habits of
`sensor_profiles.py`; clocks change every 100 ms.
"""

# ruff: noqa: D102, N802 - the names, and what they mean, are NVML's

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.hardware.simulated.gpu import SimulatedBoard
from runner.hardware.simulated.history import VIOLATION_BITS
from runner.hardware.simulated.sensor_profiles import PROFILES, Habit
from runner.hardware.simulated.structures import FieldValue, Memory, ProcessInfo, Sample, SampleValue, ViolationTime
from runner.physics.gpu_model import BoardModel, board_names, load_board
from runner.physics.gpu_state import simulated_state_dir
from runner.timebase import Clock, VirtualClock

PERMISSION_VARIABLE = "SWEEP_SIMULATED_PERMISSION"
"""Set to "denied", every setting is refused as the driver refuses a user who is not root."""

_POWER_DELAY_NS = 100_000_000
"""In real time a step is logged when the engine gets to it, up to 0.1 s late: power shows up when that is settled."""


class SimulatedNvmlError(Exception):
    """NVML's error, with its code in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"simulated NVML error {value}")
        self.value = value


class SimulatedNvml:
    """The functions of the `pynvml` module that this program calls, over simulated boards.

    Args:
        request: which boards: "sim", "sim:h200", "sim:h200x4", or with the sensors of another kind of board
            "sim:h200+a100x4" (`sensor_profiles.py`). A lease writes it down for its guard.
        clock: the time at which readings are taken.
        state_dir: the folder of the boards' state; by default SWEEP_SIMULATED_STATE's.
        may_set: whether settings are permitted; by default unless SWEEP_SIMULATED_PERMISSION=denied.
    Raises: ValueError: the request cannot be read; the boards' state is of a later time than the clock's.
    """

    simulated = True

    NVMLError = SimulatedNvmlError
    NVML_ERROR_UNINITIALIZED = 1
    NVML_ERROR_INVALID_ARGUMENT = 2
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_TOTAL_POWER_SAMPLES = 0
    NVML_PERF_POLICY_POWER = 0
    NVML_PERF_POLICY_THERMAL = 1
    NVML_PERF_POLICY_COUNT = 12
    NVML_VALUE_TYPE_UNSIGNED_INT = 1
    NVML_FI_DEV_POWER_AVERAGE = 185
    NVML_FI_DEV_POWER_INSTANT = 186

    def __init__(
        self, request: str, clock: Clock, state_dir: Path | None = None, *, may_set: bool | None = None
    ) -> None:
        self.request = request
        self.clock = clock
        self.state_dir = state_dir or simulated_state_dir()
        self._may_set = os.environ.get(PERMISSION_VARIABLE) != "denied" if may_set is None else may_set
        self._power_delay_ns = 0 if isinstance(clock, VirtualClock) else _POWER_DELAY_NS
        model, sensors, num_boards = _parse_request(request)
        now_ns = clock.now_ns()
        self._boards = [SimulatedBoard(model, sensors, i, self.state_dir, now_ns) for i in range(num_boards)]

    # The driver and its list of boards

    def nvmlInit(self) -> None:
        return None

    def nvmlShutdown(self) -> None:
        return None

    def nvmlSystemGetDriverVersion(self) -> str:
        return "simulated"

    def nvmlDeviceGetCount(self) -> int:
        return len(self._boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimulatedBoard:
        if not 0 <= index < len(self._boards):
            raise SimulatedNvmlError(self.NVML_ERROR_INVALID_ARGUMENT)
        return self._boards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> SimulatedBoard:
        for board in self._boards:
            if board.uuid == uuid:
                return board
        raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)

    # What does not change

    def nvmlDeviceGetIndex(self, board: SimulatedBoard) -> int:
        return board.index

    def nvmlDeviceGetUUID(self, board: SimulatedBoard) -> str:
        return board.uuid

    def nvmlDeviceGetName(self, board: SimulatedBoard) -> str:
        return f"Simulated {board.model.name}"

    def nvmlDeviceGetMigMode(self, board: SimulatedBoard) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetPersistenceMode(self, board: SimulatedBoard) -> int:
        return 1

    def nvmlDeviceGetSupportedMemoryClocks(self, board: SimulatedBoard) -> list[int]:
        return sorted(board.model.mem_clocks_mhz, reverse=True)

    def nvmlDeviceGetSupportedGraphicsClocks(self, board: SimulatedBoard, mem_clock_mhz: int) -> list[int]:
        if mem_clock_mhz not in board.model.mem_clocks_mhz:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)
        return sorted(board.model.sm_clocks_mhz, reverse=True)

    def nvmlDeviceGetPowerManagementLimitConstraints(self, board: SimulatedBoard) -> list[int]:
        return [_milli(board.model.power_limit_min_w), _milli(board.model.power_limit_max_w)]

    def nvmlDeviceGetPowerManagementDefaultLimit(self, board: SimulatedBoard) -> int:
        return _milli(board.model.power_limit_default_w)

    # Readings

    def nvmlDeviceGetMemoryInfo(self, board: SimulatedBoard) -> Memory:
        total = board.model.memory_total_bytes
        used = board.state.conditions_at(self.clock.now_ns()).foreign_memory_bytes
        return Memory(total=total, free=total - used, used=used)

    def nvmlDeviceGetComputeRunningProcesses(self, board: SimulatedBoard) -> list[ProcessInfo]:
        # Foreign ones alone: the engine takes none of a board's memory that does not exist.
        pids = board.state.conditions_at(self.clock.now_ns()).foreign_process_ids
        return [ProcessInfo(pid=pid, usedGpuMemory=None) for pid in pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, board: SimulatedBoard) -> int:
        habit = self._require_habit(board.sensors.counter)
        return int(board.read_counter_j(habit, self.clock.now_ns()) * 1000)

    def nvmlDeviceGetPowerUsage(self, board: SimulatedBoard) -> int:
        habit = self._require_habit(board.sensors.average)
        return _milli(board.read_power(habit, self._power_now_ns())[1])

    def nvmlDeviceGetSamples(
        self, board: SimulatedBoard, sampling_type: int, last_seen_us: int
    ) -> tuple[int, list[Sample]]:
        if sampling_type != self.NVML_TOTAL_POWER_SAMPLES:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        habit = self._require_habit(board.sensors.samples)
        readings = board.read_samples(habit, self._power_now_ns(), last_seen_us * 1000)
        if not readings:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)
        samples = [Sample(time_ns // 1000, SampleValue(_milli(power_w))) for time_ns, power_w in readings]
        return self.NVML_VALUE_TYPE_UNSIGNED_INT, samples

    def nvmlDeviceGetFieldValues(self, board: SimulatedBoard, field_ids: Sequence[int]) -> list[FieldValue]:
        return [self._field_value(board, field_id) for field_id in field_ids]

    def _field_value(self, board: SimulatedBoard, field_id: int) -> FieldValue:
        habits = {
            self.NVML_FI_DEV_POWER_INSTANT: board.sensors.instant,
            self.NVML_FI_DEV_POWER_AVERAGE: board.sensors.average,
        }
        habit, value_type = habits.get(field_id), self.NVML_VALUE_TYPE_UNSIGNED_INT
        if habit is None:
            now_us = self.clock.now_ns() // 1000
            return FieldValue(field_id, now_us, self.NVML_ERROR_NOT_SUPPORTED, value_type, SampleValue(0))
        update_ns, power_w = board.read_power(habit, self._power_now_ns())
        return FieldValue(field_id, update_ns // 1000, 0, value_type, SampleValue(_milli(power_w)))

    def nvmlDeviceGetClockInfo(self, board: SimulatedBoard, clock_type: int) -> int:
        instant = board.history.at(board.last_tick_ns(self.clock.now_ns()))
        return instant.mem_clock_mhz if clock_type == self.NVML_CLOCK_MEM else instant.sm_clock_mhz

    def nvmlDeviceGetTemperature(self, board: SimulatedBoard, sensor: int) -> int:
        return round(board.history.at(self.clock.now_ns()).temperature_c)

    def nvmlDeviceGetCurrentClocksEventReasons(self, board: SimulatedBoard) -> int:
        return board.history.at(board.last_tick_ns(self.clock.now_ns())).event_reasons

    def nvmlDeviceGetPowerManagementLimit(self, board: SimulatedBoard) -> int:
        limit_w = board.state.settings_history()[-1].power_limit_w
        return _milli(board.model.power_limit_default_w if limit_w is None else limit_w)

    def nvmlDeviceGetViolationStatus(self, board: SimulatedBoard, policy: int) -> ViolationTime:
        self._require(0 <= policy < self.NVML_PERF_POLICY_COUNT)
        tick_ns = board.last_tick_ns(self.clock.now_ns())
        violation_ns = board.history.violation_ns(policy, tick_ns) if policy in VIOLATION_BITS else 0
        return ViolationTime(tick_ns // 1000, violation_ns)

    # Settings

    def nvmlDeviceSetGpuLockedClocks(self, board: SimulatedBoard, min_mhz: int, max_mhz: int) -> None:
        self._require(0 < min_mhz <= max_mhz)
        self._change(board, sm_clock_mhz=_highest_within(board.model.sm_clocks_mhz, max_mhz))

    def nvmlDeviceResetGpuLockedClocks(self, board: SimulatedBoard) -> None:
        self._change(board, sm_clock_mhz=None)

    def nvmlDeviceSetMemoryLockedClocks(self, board: SimulatedBoard, min_mhz: int, max_mhz: int) -> None:
        self._require(0 < min_mhz <= max_mhz)
        self._change(board, mem_clock_mhz=_highest_within(board.model.mem_clocks_mhz, max_mhz))

    def nvmlDeviceResetMemoryLockedClocks(self, board: SimulatedBoard) -> None:
        self._change(board, mem_clock_mhz=None)

    def nvmlDeviceSetPowerManagementLimit(self, board: SimulatedBoard, limit_mw: int) -> None:
        limit_w = limit_mw / 1000
        self._require(board.model.power_limit_min_w <= limit_w <= board.model.power_limit_max_w)
        self._change(board, power_limit_w=None if limit_w == board.model.power_limit_default_w else limit_w)

    def _power_now_ns(self) -> int:
        return self.clock.now_ns() - self._power_delay_ns

    def _require_habit(self, habit: Habit | None) -> Habit:
        if habit is None:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        return habit

    def _require(self, valid: bool) -> None:
        if not valid:
            raise SimulatedNvmlError(self.NVML_ERROR_INVALID_ARGUMENT)

    def _change(self, board: SimulatedBoard, **changes: Any) -> None:
        if not self._may_set:
            raise SimulatedNvmlError(self.NVML_ERROR_NO_PERMISSION)
        with board.locked():
            last = board.state.settings_history()[-1]
            time_ns = max(self.clock.now_ns(), last.time_ns)
            board.state.change_settings(replace(last, time_ns=time_ns, **changes))


def _parse_request(request: str) -> tuple[BoardModel, str, int]:
    """Return the board, its sensors' profile and how many are asked for by "sim", "sim:h200" or "sim:h200+a100x4"."""
    match = re.fullmatch(r"sim(?::([a-z0-9]+?)(?:\+([a-z0-9-]+?))?(?:x([1-9]\d?))?)?", request)
    if match is None:
        raise ValueError(
            f"simulated boards are asked for as sim, sim:BOARD, sim:BOARD+SENSORS or either with a number, x1 to x99, "
            f"behind it, not {request!r}; BOARD is one of {', '.join(board_names())}, "
            f"SENSORS (by default the board's own) one of {', '.join(PROFILES)}"
        )
    board = match[1] or "h200"
    return load_board(board), match[2] or board, int(match[3] or 1)


def _milli(value: float) -> int:
    return round(value * 1000)


def _highest_within(clocks_mhz: Sequence[int], max_mhz: int) -> int:
    """Return the highest supported clock that is not above `max_mhz`, as the driver rounds."""
    return max((mhz for mhz in clocks_mhz if mhz <= max_mhz), default=clocks_mhz[0])
