"""NvmlGpu: the one real implementation of `Gpu`, over the `pynvml` module or a stand-in for it.

In: NVML's milliwatts, millijoules, microseconds and error codes. Out: W, J, ns and typed `GpuError`s.
"""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from runner.hardware.access.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.gpu import (
    ActivityMark,
    GpuAddress,
    GpuInfo,
    NotSupportedError,
    PowerReading,
    ReadOnlyError,
    StateReading,
    ThrottleTimes,
)
from runner.hardware.nvml.calls import call_nvml, read_or_none, read_power_field, read_power_samples
from runner.hardware.nvml.gpm import read_between, take_sample
from runner.hardware.nvml.info import as_watts, open_handle, read_info
from runner.hardware.nvml.renewed import RenewedReading
from runner.hardware.nvml.throttle import read_times_by_fields, read_times_by_policies, translate_reasons
from runner.spec.activity import UnitActivity
from runner.spec.operating_point import OperatingPoint, Setting
from runner.timebase import TimeSource, WallTime

MEMORY_SCOPE = 2
"""NVML_POWER_SCOPE_MEMORY."""


class NvmlGpu:
    """One GPU behind NVML (the `Gpu` protocol).

    Args:
        nvml: the `pynvml` module, initialised, or a stand-in for it. A stand-in may have the attributes `simulated`,
            `time_source`, `request` and `state_dir`.
        uuid_or_index: the GPU's full UUID, or NVML's index.
        read_only: refuse every setting before NVML is called. SWEEP_CLOCKS=read-only does so too.
    Raises: NotSupportedError: the GPU is split by MIG, whose instances have no power or clocks of their own.
    """

    def __init__(self, nvml: Any, uuid_or_index: str | int, *, read_only: bool) -> None:
        self._nvml = nvml
        self._time_source: TimeSource = getattr(nvml, "time_source", None) or WallTime()
        self._read_only = read_only
        self._handle = open_handle(nvml, uuid_or_index)
        self._info = read_info(nvml, self._handle)
        self._temperature_c = RenewedReading(
            partial(self._call, "nvmlDeviceGetTemperatureV", nvml.NVML_TEMPERATURE_GPU),
            partial(self._call, "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        )
        self._reason_bits = RenewedReading(
            partial(self._call, "nvmlDeviceGetCurrentClocksEventReasons"),
            partial(self._call, "nvmlDeviceGetCurrentClocksThrottleReasons"),
        )
        self._throttle_times = RenewedReading(
            partial(read_times_by_fields, nvml, self._handle),
            partial(read_times_by_policies, nvml, self._handle),
        )

    @property
    def info(self) -> GpuInfo:
        """The GPU's fixed facts, read once."""
        return self._info

    @property
    def address(self) -> GpuAddress:
        """How another process opens this GPU."""
        return GpuAddress(
            request=getattr(self._nvml, "request", "nvidia"),
            uuid=self._info.uuid,
            state_dir=getattr(self._nvml, "state_dir", None),
        )

    @property
    def read_only(self) -> bool:
        """Whether settings are refused, because the GPU was opened so or because of SWEEP_CLOCKS."""
        return self._read_only or environment_forbids_setting()

    def read_power_samples(self, after_ns: int) -> list[PowerReading]:
        """Return the samples of the driver's buffer with stamps later than `after_ns`, oldest first.

        Source: NVML_TOTAL_POWER_SAMPLES. An H200 takes one about every 20 ms and keeps 120.
        """
        return read_power_samples(self._nvml, self._handle, after_ns)

    def read_instant_power(self) -> PowerReading:
        """Return the newest instantaneous power (NVML_FI_DEV_POWER_INSTANT) with the field's own stamp."""
        return read_power_field(self._nvml, self._handle, "NVML_FI_DEV_POWER_INSTANT")

    def read_average_power(self) -> PowerReading:
        """Return nvmlDeviceGetPowerUsage, stamped when it was read.

        It is instantaneous on GA100 and older, and a one-second average on newer GPUs.
        """
        power_w = float(self._call("nvmlDeviceGetPowerUsage")) / 1000
        return PowerReading(time_ns=self._time_source.now_ns(), power_w=power_w)

    def read_memory_power(self) -> PowerReading:
        """Return what the memory draws (NVML_FI_DEV_POWER_AVERAGE at scope 2): a one-second mean on an H200.

        Raises: NotSupportedError: the GPU does not tell its memory from the rest.
        """
        return read_power_field(self._nvml, self._handle, "NVML_FI_DEV_POWER_AVERAGE", MEMORY_SCOPE)

    def mark_activity(self) -> ActivityMark:
        """Read the activity counters (GPM) now. Raises: NotSupportedError: the GPU has none."""
        return take_sample(self._nvml, self._handle)

    def read_activity(self, first: ActivityMark, last: ActivityMark) -> UnitActivity:
        """Return how busy the GPU's units were between two marks, at least 0.1 s apart (GPM)."""
        return read_between(self._nvml, first, last)

    def read_state(self) -> StateReading:
        """Return clocks, temperature and throttle reasons now. A reading that fails is None.

        Raises: GpuLostError: the GPU no longer answers at all.
        """
        nvml = self._nvml
        time_ns = self._time_source.now_ns()
        sm_clock_mhz = self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        mem_clock_mhz = self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        temperature_c = self._temperature_c.read()
        bits = self._reason_bits.read()
        return StateReading(
            time_ns=time_ns,
            sm_clock_mhz=sm_clock_mhz,
            mem_clock_mhz=mem_clock_mhz,
            temperature_c=temperature_c,
            throttle_reasons=None if bits is None else translate_reasons(int(bits)),
        )

    def read_energy_counter_j(self) -> float:
        """Return the energy since the driver loaded. It ticks about every 100 ms, and a call takes about 3 ms."""
        return float(self._call("nvmlDeviceGetTotalEnergyConsumption")) / 1000

    def read_throttle_times(self) -> ThrottleTimes:
        """Return the cumulative times of throttling since the driver loaded. A kind that it does not count is None.

        Source: the fields NVML_FI_DEV_CLOCKS_EVENT_REASON_* where they answer, else nvmlDeviceGetViolationStatus.
        """
        return self._throttle_times.read() or ThrottleTimes(power_s=None, thermal_s=None, other_s=None)

    def read_power_limit_w(self) -> float | None:
        """Return the power limit in force; None where the GPU has none."""
        return as_watts(self._read_or_none("nvmlDeviceGetPowerManagementLimit"))

    def read_memory_used_bytes(self) -> int | None:
        """Return the memory in use, by any process; None where the GPU does not report it."""
        memory = self._read_or_none("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def read_process_ids(self) -> list[int]:
        """Return the ids of the processes that compute on the GPU, in the driver's PID namespace."""
        return [process.pid for process in self._call("nvmlDeviceGetComputeRunningProcesses")]

    def check(self, point: OperatingPoint) -> None:
        """Refuse an operating point that this GPU does not support. Raises: NotSupportedError, ValueError."""
        info = self._info
        _check_clock("SM", point.sm_clock_mhz, info.sm_clocks_at(point.mem_clock_mhz))
        _check_clock("memory", point.mem_clock_mhz, info.mem_clocks_mhz)
        limit_w, low_w, high_w = point.power_limit_w, info.power_limit_min_w, info.power_limit_max_w
        if limit_w is None or limit_w == self.read_power_limit_w():
            return
        if low_w is None or high_w is None:
            raise NotSupportedError(f"{info.name} has no power limit to set")
        if not low_w <= limit_w <= high_w:
            raise ValueError(f"a power limit of {limit_w:g} W is outside this GPU's {low_w:g} to {high_w:g} W")

    def apply(self, point: OperatingPoint) -> None:
        """Lock the clocks and set the power limit of an operating point. Parts that are None stay as they are.

        Raises: ReadOnlyError: read-only mode; raised before NVML is called. PermissionDeniedError, NotSupportedError.
            ValueError: the GPU does not support a value.
        """
        self._require_may_set()
        self.check(point)
        if point.mem_clock_mhz is not None:
            self._set("nvmlDeviceSetMemoryLockedClocks", point.mem_clock_mhz, point.mem_clock_mhz)
        if point.sm_clock_mhz is not None:
            lowest_mhz = self._info.sm_clocks_mhz[0] if point.sm_clock_is_ceiling else point.sm_clock_mhz
            self._set("nvmlDeviceSetGpuLockedClocks", lowest_mhz, point.sm_clock_mhz)
        if point.power_limit_w is not None:
            self._set_power_limit(point.power_limit_w)

    def reset(self, power_limit_w: float | None, settings: Collection[Setting] | None = None) -> None:
        """Unlock the clocks that `settings` names, and set the power limit back.

        Args:
            power_limit_w: the limit to set; None leaves the limit as it is.
            settings: what has been set; None means everything that the GPU can set.
        Raises: ReadOnlyError: read-only mode; raised before NVML is called. PermissionDeniedError. The error of a
            setting that failed, after the others were tried.
        """
        self._require_may_set()
        # A setting that the GPU lacks needs no reset. But one that was made must not be left in silence.
        reset = self._reset_if_supported if settings is None else self._set
        settings = ("sm_clock", "mem_clock", "power_limit") if settings is None else settings
        with ExitStack() as steps:  # they run last to first, and each runs whatever the others raise
            if "power_limit" in settings and power_limit_w is not None:
                steps.callback(self._set_power_limit, power_limit_w)
            if "mem_clock" in settings:
                steps.callback(reset, "nvmlDeviceResetMemoryLockedClocks")
            if "sm_clock" in settings:
                steps.callback(reset, "nvmlDeviceResetGpuLockedClocks")

    def _call(self, function: str, *args: Any) -> Any:
        return call_nvml(self._nvml, function, self._handle, *args)

    def _read_or_none(self, function: str, *args: Any) -> Any:
        return read_or_none(self._nvml, function, self._handle, *args)

    def _require_may_set(self) -> None:
        if self._read_only:
            raise ReadOnlyError("read-only mode: clocks and limits are left alone; use --clocks apply to set them")
        if environment_forbids_setting():
            raise ReadOnlyError(f"{CLOCKS_VARIABLE} is set to read-only: clocks and limits are left alone")

    def _set(self, function: str, *args: Any) -> None:
        """Call a function of NVML that changes the GPU. Every such call goes through here and checks the permission."""
        self._require_may_set()
        self._call(function, *args)

    def _reset_if_supported(self, function: str) -> None:
        with suppress(NotSupportedError):
            self._set(function)

    def _set_power_limit(self, limit_w: float) -> None:
        if limit_w != self.read_power_limit_w():
            self._set("nvmlDeviceSetPowerManagementLimit", round(limit_w * 1000))


def _check_clock(what: str, clock_mhz: int | None, supported_mhz: tuple[int, ...]) -> None:
    if clock_mhz is None or clock_mhz in supported_mhz:
        return
    if not supported_mhz:
        raise NotSupportedError(f"this GPU does not say which {what} clocks it supports")
    raise ValueError(
        f"{clock_mhz} MHz is not a {what} clock of this GPU, which has {len(supported_mhz)} of them "
        f"from {supported_mhz[0]} to {supported_mhz[-1]} MHz"
    )
