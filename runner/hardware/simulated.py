"""SimulatedNvml stands in for the `pynvml` module: its functions, constants, structures and errors, a driver's habits.

`NvmlGpu` itself is thereby what runs and is tested on a machine without a board. Every reading is a pure function of
the board's log of activity, its settings and the clock that is passed in; nothing is random, and two processes that
read at the same instant agree. Where the driver quantises, so does this module: an energy counter that ticks every
100 ms, a buffer of 120 power samples 20 ms apart, a one-second power average, clocks that change every 100 ms.
"""

# ruff: noqa: D102, N802, N815 - the names, and what they mean, are NVML's

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.hardware.simulated_board import SAMPLE_NS, SimulatedBoard
from runner.hardware.simulated_history import VIOLATION_BITS
from runner.physics.board import BoardModel, load_board
from runner.physics.board_state import simulated_state_dir
from runner.physics.clock import Clock, VirtualClock

PERMISSION_VARIABLE = "SWEEP_SIMULATED_PERMISSION"
"""Set to "denied", every setting is refused as the driver refuses a user who is not root."""

_SAMPLE_DELAY_NS = 100_000_000
"""In real time a step is logged when the engine gets to it, up to 0.1 s late: samples show up when that is settled."""
_NUM_BUFFERED = 120
_AVERAGE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SampleValue:
    """The union of NVML's values; this driver fills unsigned integers."""

    uiVal: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of the sample buffer: µs since the epoch and mW."""

    timeStamp: int
    sampleValue: SampleValue


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One answer of nvmlDeviceGetFieldValues."""

    fieldId: int
    timestamp: int
    nvmlReturn: int
    valueType: int
    value: SampleValue


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the board's memory."""

    total: int
    free: int
    used: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process that computes on the board."""

    pid: int
    usedGpuMemory: int | None


@dataclass(frozen=True, slots=True)
class ViolationTime:
    """For how long a policy has held clocks down since the driver loaded: ns, up to µs since the epoch."""

    referenceTime: int
    violationTime: int


class SimulatedNvmlError(Exception):
    """NVML's error, with its code in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"simulated NVML error {value}")
        self.value = value


class SimulatedNvml:
    """The functions of the `pynvml` module that this program calls, over simulated boards.

    Args:
        request: which boards: "sim", "sim:h200" or "sim:h200x4". A lease writes it down for its guard.
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
        self._sample_delay_ns = 0 if isinstance(clock, VirtualClock) else _SAMPLE_DELAY_NS
        models = _parse_request(request)
        self._boards = [SimulatedBoard(model, i, self.state_dir, clock.now_ns()) for i, model in enumerate(models)]

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
        return int(board.history.energy_j(board.last_tick_ns(self.clock.now_ns())) * 1000)

    def nvmlDeviceGetPowerUsage(self, board: SimulatedBoard) -> int:
        end_ns = board.last_tick_ns(self.clock.now_ns())
        start_ns = max(end_ns - _AVERAGE_NS, board.loaded_ns)
        if end_ns == start_ns:
            return _milli(board.history.at(end_ns).power_w)
        energy_j = board.history.energy_j(end_ns) - board.history.energy_j(start_ns)
        return _milli(energy_j / ((end_ns - start_ns) * 1e-9))

    def nvmlDeviceGetSamples(
        self, board: SimulatedBoard, sampling_type: int, last_seen_us: int
    ) -> tuple[int, list[Sample]]:
        if sampling_type != self.NVML_TOTAL_POWER_SAMPLES:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        now_ns = self.clock.now_ns() - self._sample_delay_ns
        newest = (now_ns - board.loaded_ns) // SAMPLE_NS
        if newest >= 0 and board.sample_ns(newest) > now_ns:
            newest -= 1
        oldest = max(newest - _NUM_BUFFERED + 1, 0, (last_seen_us * 1000 - board.loaded_ns) // SAMPLE_NS)
        stamps_ns = [
            time_ns for k in range(oldest, newest + 1) if (time_ns := board.sample_ns(k)) // 1000 > last_seen_us
        ]
        if not stamps_ns:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)
        powers_w = board.history.powers_w(stamps_ns)
        samples = [Sample(t // 1000, SampleValue(_milli(w))) for t, w in zip(stamps_ns, powers_w, strict=True)]
        return self.NVML_VALUE_TYPE_UNSIGNED_INT, samples

    def nvmlDeviceGetFieldValues(self, board: SimulatedBoard, field_ids: Sequence[int]) -> list[FieldValue]:
        return [self._field_value(board, field_id) for field_id in field_ids]

    def _field_value(self, board: SimulatedBoard, field_id: int) -> FieldValue:
        tick_ns = board.last_tick_ns(self.clock.now_ns())
        readings = {
            self.NVML_FI_DEV_POWER_INSTANT: lambda: _milli(board.history.at(tick_ns).power_w),
            self.NVML_FI_DEV_POWER_AVERAGE: lambda: self.nvmlDeviceGetPowerUsage(board),
        }
        read = readings.get(field_id)
        status = self.NVML_ERROR_NOT_SUPPORTED if read is None else 0
        value = SampleValue(0 if read is None else read())
        return FieldValue(field_id, tick_ns // 1000, status, self.NVML_VALUE_TYPE_UNSIGNED_INT, value)

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


def _parse_request(request: str) -> list[BoardModel]:
    """Return the boards that "sim", "sim:h200" or "sim:h200x4" asks for."""
    match = re.fullmatch(r"sim(?::([a-z0-9]+?)(?:x([1-9]\d?))?)?", request)
    if match is None:
        raise ValueError(f"simulated boards are asked for as sim, sim:h200 or sim:h200x4 (99 at most), not {request!r}")
    return [load_board(match[1] or "h200")] * int(match[2] or 1)


def _milli(value: float) -> int:
    return round(value * 1000)


def _highest_within(clocks_mhz: Sequence[int], max_mhz: int) -> int:
    """Return the highest supported clock that is not above `max_mhz`, as the driver rounds."""
    return max((mhz for mhz in clocks_mhz if mhz <= max_mhz), default=clocks_mhz[0])
