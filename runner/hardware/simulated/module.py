"""SimulatedNvml stands in for the `pynvml` module: it has the module's functions, constants, structures and errors.

So `NvmlGpu` itself runs, and is tested, on a machine without a GPU. Every reading follows from the GPU's log of
activity, its settings and the time. Nothing is random, and two processes that read at the same instant agree. This
module rounds, averages and misses power as a driver does (`sensor_profiles.py`). Clocks change every 100 ms.
"""

# ruff: noqa: D102, N802 - the names, and what they mean, are NVML's

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.hardware.access.permission import PERMISSION_VARIABLE
from runner.hardware.simulated.constants import BIT_OF_REASON, REASON_OF_FIELD, NvmlConstants, SimulatedNvmlError
from runner.hardware.simulated.gpm import SimulatedGpm
from runner.hardware.simulated.gpu import SimulatedGpu
from runner.hardware.simulated.history import COUNTED_REASONS
from runner.hardware.simulated.sensor_profiles import PROFILES, Habit
from runner.hardware.simulated.structures import (
    CounterValue,
    FieldValue,
    Memory,
    ProcessInfo,
    Sample,
    SampleValue,
    ViolationTime,
)
from runner.physics.gpu_model import GpuModel, gpu_model_names, load_gpu_model
from runner.physics.gpu_state import simulated_state_dir
from runner.timebase import TimeSource, VirtualTime

_POWER_DELAY_NS = 100_000_000
"""Delay of power readings in real time, because the engine may log a step up to 0.1 s late."""
_REASONS_OF_POLICY = dict(enumerate(COUNTED_REASONS))
"""By nvmlPerfPolicyType_t: 0 power, 1 thermal, 2 sync boost. The others are never counted here."""


class SimulatedNvml(SimulatedGpm, NvmlConstants):
    """The functions of the `pynvml` module that this program calls, over simulated GPUs.

    Args:
        request: which GPUs: "sim", "sim:h200", "sim:h200x4", or with the sensors of another kind of GPU
            "sim:h200+a100x4" (`sensor_profiles.py`). A lease writes it into its journal.
        time_source: what tells the time at which readings are taken.
        state_dir: the folder of the GPUs' state; by default SWEEP_SIMULATED_STATE's.
        may_set: whether settings are permitted; by default they are, unless SWEEP_SIMULATED_PERMISSION=denied.
        has_successors: whether the driver has the successors of the calls that CUDA 13 deprecates. Without them it is
            an old driver.
    Raises: ValueError: the request cannot be read, or the GPUs' state is from later than the time source's now.
    """

    simulated = True

    def __init__(
        self,
        request: str,
        time_source: TimeSource,
        state_dir: Path | None = None,
        *,
        may_set: bool | None = None,
        has_successors: bool = True,
    ) -> None:
        self.request = request
        self.time_source = time_source
        self.state_dir = state_dir or simulated_state_dir()
        self._may_set = os.environ.get(PERMISSION_VARIABLE) != "denied" if may_set is None else may_set
        self._has_successors = has_successors
        self._power_delay_ns = 0 if isinstance(time_source, VirtualTime) else _POWER_DELAY_NS
        model, sensors, num_gpus = _parse_request(request)
        now_ns = time_source.now_ns()
        self._gpus = [SimulatedGpu(model, sensors, i, self.state_dir, now_ns) for i in range(num_gpus)]

    # The driver and its list of GPUs

    def nvmlInit(self) -> None:
        return None

    def nvmlShutdown(self) -> None:
        return None

    def nvmlSystemGetDriverVersion(self) -> str:
        return "simulated"

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimulatedGpu:
        if not 0 <= index < len(self._gpus):
            raise SimulatedNvmlError(self.NVML_ERROR_INVALID_ARGUMENT)
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> SimulatedGpu:
        for gpu in self._gpus:
            if gpu.uuid == uuid:
                return gpu
        raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)

    # What does not change

    def nvmlDeviceGetIndex(self, gpu: SimulatedGpu) -> int:
        return gpu.index

    def nvmlDeviceGetUUID(self, gpu: SimulatedGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: SimulatedGpu) -> str:
        return f"Simulated {gpu.model.name}"

    def nvmlDeviceGetMigMode(self, gpu: SimulatedGpu) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetPersistenceMode(self, gpu: SimulatedGpu) -> int:
        return 1

    def nvmlDeviceGetSupportedMemoryClocks(self, gpu: SimulatedGpu) -> list[int]:
        return sorted(gpu.model.mem_clocks_mhz, reverse=True)

    def nvmlDeviceGetSupportedGraphicsClocks(self, gpu: SimulatedGpu, mem_clock_mhz: int) -> list[int]:
        if mem_clock_mhz not in gpu.model.mem_clocks_mhz:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)
        return sorted(gpu.model.sm_clocks_mhz, reverse=True)

    def nvmlDeviceGetPowerManagementLimitConstraints(self, gpu: SimulatedGpu) -> list[int]:
        return [_milli(gpu.model.power_limit_min_w), _milli(gpu.model.power_limit_max_w)]

    def nvmlDeviceGetPowerManagementDefaultLimit(self, gpu: SimulatedGpu) -> int:
        return _milli(gpu.model.power_limit_default_w)

    # Readings

    def nvmlDeviceGetMemoryInfo(self, gpu: SimulatedGpu) -> Memory:
        total = gpu.model.memory_total_bytes
        used = gpu.state.conditions_at(self.time_source.now_ns()).foreign_memory_bytes
        return Memory(total=total, free=total - used, used=used)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: SimulatedGpu) -> list[ProcessInfo]:
        # Only foreign processes: the engine does not run on this GPU.
        pids = gpu.state.conditions_at(self.time_source.now_ns()).foreign_process_ids
        return [ProcessInfo(pid=pid, usedGpuMemory=None) for pid in pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: SimulatedGpu) -> int:
        habit = self._require_habit(gpu.sensors.counter)
        return int(gpu.read_counter_j(habit, self.time_source.now_ns()) * 1000)

    def nvmlDeviceGetPowerUsage(self, gpu: SimulatedGpu) -> int:
        habit = self._require_habit(gpu.sensors.average)
        return _milli(gpu.read_power(habit, self._power_now_ns())[1])

    def nvmlDeviceGetSamples(
        self, gpu: SimulatedGpu, sampling_type: int, last_seen_us: int
    ) -> tuple[int, list[Sample]]:
        if sampling_type != self.NVML_TOTAL_POWER_SAMPLES:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        habit = self._require_habit(gpu.sensors.samples)
        readings = gpu.read_samples(habit, self._power_now_ns(), last_seen_us * 1000)
        if not readings:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_FOUND)
        samples = [Sample(time_ns // 1000, SampleValue(_milli(power_w))) for time_ns, power_w in readings]
        return self.NVML_VALUE_TYPE_UNSIGNED_INT, samples

    def nvmlDeviceGetFieldValues(
        self, gpu: SimulatedGpu, field_ids: Sequence[int | tuple[int, int]]
    ) -> list[FieldValue]:
        pairs = [(one, self.NVML_POWER_SCOPE_GPU) if isinstance(one, int) else one for one in field_ids]
        return [self._field_value(gpu, field_id, scope) for field_id, scope in pairs]

    def _field_value(self, gpu: SimulatedGpu, field_id: int, scope: int) -> FieldValue:
        if self._has_successors and field_id in REASON_OF_FIELD:
            tick_ns = gpu.last_tick_ns(self.time_source.now_ns())
            counter = CounterValue(gpu.history.throttled_ns(REASON_OF_FIELD[field_id], tick_ns))
            return FieldValue(field_id, tick_ns // 1000, 0, self.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, counter)
        average = self.NVML_FI_DEV_POWER_AVERAGE
        habits = {
            (self.NVML_FI_DEV_POWER_INSTANT, self.NVML_POWER_SCOPE_GPU): gpu.sensors.instant,
            (average, self.NVML_POWER_SCOPE_GPU): gpu.sensors.average,
            (average, self.NVML_POWER_SCOPE_MEMORY): gpu.sensors.memory,
        }
        habit, value_type = habits.get((field_id, scope)), self.NVML_VALUE_TYPE_UNSIGNED_INT
        if habit is None:
            now_us = self.time_source.now_ns() // 1000
            return FieldValue(field_id, now_us, self.NVML_ERROR_NOT_SUPPORTED, value_type, SampleValue(0))
        is_memory = scope == self.NVML_POWER_SCOPE_MEMORY
        read = gpu.read_memory_power if is_memory else gpu.read_power
        update_ns, power_w = read(habit, self._power_now_ns())
        return FieldValue(field_id, update_ns // 1000, 0, value_type, SampleValue(_milli(power_w)))

    def nvmlDeviceGetClockInfo(self, gpu: SimulatedGpu, clock_type: int) -> int:
        instant = gpu.history.at(gpu.last_tick_ns(self.time_source.now_ns()))
        return instant.mem_clock_mhz if clock_type == self.NVML_CLOCK_MEM else instant.sm_clock_mhz

    def nvmlDeviceGetTemperature(self, gpu: SimulatedGpu, sensor: int) -> int:
        return round(gpu.history.at(self.time_source.now_ns()).temperature_c)

    def nvmlDeviceGetTemperatureV(self, gpu: SimulatedGpu, sensor: int) -> int:
        self._require_successors()
        return self.nvmlDeviceGetTemperature(gpu, sensor)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: SimulatedGpu) -> int:
        reasons = gpu.history.at(gpu.last_tick_ns(self.time_source.now_ns())).throttle_reasons
        return sum(bit for reason, bit in BIT_OF_REASON.items() if reason in reasons)

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: SimulatedGpu) -> int:
        self._require_successors()
        return self.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)

    def nvmlDeviceGetPowerManagementLimit(self, gpu: SimulatedGpu) -> int:
        limit_w = gpu.state.settings_history()[-1].power_limit_w
        return _milli(gpu.model.power_limit_default_w if limit_w is None else limit_w)

    def nvmlDeviceGetViolationStatus(self, gpu: SimulatedGpu, policy: int) -> ViolationTime:
        self._require(0 <= policy < self.NVML_PERF_POLICY_COUNT)
        tick_ns = gpu.last_tick_ns(self.time_source.now_ns())
        reasons = _REASONS_OF_POLICY.get(policy, ())
        return ViolationTime(tick_ns // 1000, sum(gpu.history.throttled_ns(reason, tick_ns) for reason in reasons))

    # Settings

    def nvmlDeviceSetGpuLockedClocks(self, gpu: SimulatedGpu, min_mhz: int, max_mhz: int) -> None:
        self._require(0 < min_mhz <= max_mhz)
        highest_mhz = _highest_within(gpu.model.sm_clocks_mhz, max_mhz)
        self._change(gpu, sm_clock_mhz=highest_mhz, sm_clock_is_ceiling=min_mhz < highest_mhz)

    def nvmlDeviceResetGpuLockedClocks(self, gpu: SimulatedGpu) -> None:
        self._change(gpu, sm_clock_mhz=None, sm_clock_is_ceiling=False)

    def nvmlDeviceSetMemoryLockedClocks(self, gpu: SimulatedGpu, min_mhz: int, max_mhz: int) -> None:
        self._require(0 < min_mhz <= max_mhz)
        self._change(gpu, mem_clock_mhz=_highest_within(gpu.model.mem_clocks_mhz, max_mhz))

    def nvmlDeviceResetMemoryLockedClocks(self, gpu: SimulatedGpu) -> None:
        self._change(gpu, mem_clock_mhz=None)

    def nvmlDeviceSetPowerManagementLimit(self, gpu: SimulatedGpu, limit_mw: int) -> None:
        limit_w = limit_mw / 1000
        self._require(gpu.model.power_limit_min_w <= limit_w <= gpu.model.power_limit_max_w)
        self._change(gpu, power_limit_w=None if limit_w == gpu.model.power_limit_default_w else limit_w)

    def _power_now_ns(self) -> int:
        return self.time_source.now_ns() - self._power_delay_ns

    def _require_habit(self, habit: Habit | None) -> Habit:
        if habit is None:
            raise SimulatedNvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        return habit

    def _require_successors(self) -> None:
        if not self._has_successors:
            raise SimulatedNvmlError(self.NVML_ERROR_FUNCTION_NOT_FOUND)

    def _require(self, valid: bool) -> None:
        if not valid:
            raise SimulatedNvmlError(self.NVML_ERROR_INVALID_ARGUMENT)

    def _change(self, gpu: SimulatedGpu, **changes: Any) -> None:
        if not self._may_set:
            raise SimulatedNvmlError(self.NVML_ERROR_NO_PERMISSION)
        with gpu.locked():
            last = gpu.state.settings_history()[-1]
            time_ns = max(self.time_source.now_ns(), last.time_ns)
            gpu.state.change_settings(replace(last, time_ns=time_ns, **changes))


def _parse_request(request: str) -> tuple[GpuModel, str, int]:
    """Return the GPU model, the sensor profile and the number of GPUs of a request such as "sim:h200+a100x4"."""
    match = re.fullmatch(r"sim(?::([a-z0-9]+?)(?:\+([a-z0-9-]+?))?(?:x([1-9]\d?))?)?", request)
    if match is None:
        raise ValueError(
            f"simulated GPUs are asked for as sim, sim:GPU, sim:GPU+SENSORS or either with a number, x1 to x99, "
            f"behind it, not {request!r}; GPU is one of {', '.join(gpu_model_names())}, "
            f"SENSORS (by default the GPU's own) one of {', '.join(PROFILES)}"
        )
    gpu = match[1] or "h200"
    return load_gpu_model(gpu), match[2] or gpu, int(match[3] or 1)


def _milli(value: float) -> int:
    return round(value * 1000)


def _highest_within(clocks_mhz: Sequence[int], max_mhz: int) -> int:
    """Return the highest supported clock that is not above `max_mhz`. A driver rounds so."""
    return max((mhz for mhz in clocks_mhz if mhz <= max_mhz), default=clocks_mhz[0])
