"""NvmlGpu: the one real implementation of `Gpu`, over the `pynvml` module or the simulated one.

In: NVML's milliwatts, millijoules, microseconds and error codes. Out: W, J, ns and typed `GpuError`s.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.hardware.gpu import (
    ClockRequest,
    GpuError,
    GpuInfo,
    GpuLostError,
    NoGpuError,
    NotSupportedError,
    PermissionDeniedError,
    PowerReading,
    ReadOnlyError,
    StateReading,
)
from runner.hardware.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.simulated import SimulatedNvml
from runner.physics.clock import Clock, WallClock

_VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of NVML's value union, by nvmlValueType_t."""


def open_nvml(request: str, clock: Clock, state_dir: Path | None = None) -> Any:
    """Return the NVML to use: a `SimulatedNvml` for "sim", "sim:h200x4" and the like, else `pynvml`, initialised.

    Args:
        clock: the time of simulated boards; real ones keep their own.
        state_dir: where simulated boards keep their state; by default SWEEP_SIMULATED_STATE's.
    Raises: NoGpuError: there is no NVIDIA driver here. ValueError: as `SimulatedNvml`.
    """
    if is_simulated(request):
        return SimulatedNvml(request, clock, state_dir)
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGpuError(
            f"no NVIDIA driver answers here ({error}); use a machine with one, or --gpu sim for the simulated board"
        ) from error
    return pynvml


def is_simulated(request: str) -> bool:
    """Return whether a `--gpu` value asks for simulated boards."""
    return request == "sim" or request.startswith("sim:")


def call_nvml(nvml: Any, function: str, *args: Any) -> Any:
    """Call a function of NVML, its error codes made typed errors.

    Raises: NotSupportedError, PermissionDeniedError, GpuLostError, NoGpuError, GpuError.
    """
    implementation = getattr(nvml, function, None)
    if implementation is None:
        raise NotSupportedError(f"this version of nvidia-ml-py has no {function}")
    try:
        return implementation(*args)
    except nvml.NVMLError as error:
        raise _typed_error(nvml, error, function) from error


def _typed_error(nvml: Any, error: Any, function: str) -> GpuError:
    code = error.value
    if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
        return NotSupportedError(f"{function}: not supported by this board or driver")
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return PermissionDeniedError(
            f"{function}: the driver lets only root do this; run as root, or measure with --clocks read-only"
        )
    if code in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
        return GpuLostError(f"{function}: the board no longer answers ({error}); see dmesg, then reset it or reboot")
    if code in (nvml.NVML_ERROR_DRIVER_NOT_LOADED, nvml.NVML_ERROR_LIBRARY_NOT_FOUND):
        return NoGpuError(f"{function}: no NVIDIA driver answers here ({error})")
    return GpuError(f"{function}: {error}")


class NvmlGpu:
    """One board behind NVML (the `Gpu` protocol).

    Args:
        nvml: the `pynvml` module, initialised, or a `SimulatedNvml`; see `open_nvml`.
        index_or_uuid: NVML's index, or the board's full UUID.
        read_only: refuse every setting before NVML is called; SWEEP_CLOCKS=read-only does so too.
    Raises: NotSupportedError: the board is split by MIG, whose instances have no power or clocks of their own.
    """

    def __init__(self, nvml: Any, index_or_uuid: int | str, *, read_only: bool) -> None:
        self._nvml = nvml
        self._clock: Clock = getattr(nvml, "clock", None) or WallClock()
        self._read_only = read_only
        kind = "Index" if isinstance(index_or_uuid, int) else "UUID"
        self._handle = call_nvml(nvml, f"nvmlDeviceGetHandleBy{kind}", index_or_uuid)
        self._refuse_mig()
        self._info = self._read_info()

    @property
    def info(self) -> GpuInfo:
        """The board's fixed facts, read once."""
        return self._info

    @property
    def nvml(self) -> Any:
        """The NVML that it speaks to."""
        return self._nvml

    @property
    def read_only(self) -> bool:
        """Whether settings are refused, by the caller's wish or by SWEEP_CLOCKS."""
        return self._read_only or environment_forbids_setting()

    def read_power_samples(self, after_ns: int) -> list[PowerReading]:
        """Return what the driver's sample buffer holds with stamps later than `after_ns`, oldest first.

        Source: NVML_TOTAL_POWER_SAMPLES, about one every 20 ms and 120 of them on an H200; docs/measurement.md.
        """
        last_seen_us = max(after_ns // 1000, 0)
        try:
            value_type, samples = self._nvml.nvmlDeviceGetSamples(
                self._handle, self._nvml.NVML_TOTAL_POWER_SAMPLES, last_seen_us
            )
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_FOUND:  # nothing new
                return []
            raise _typed_error(self._nvml, error, "nvmlDeviceGetSamples") from error
        member = _VALUE_FIELDS[value_type]
        readings = [
            PowerReading(time_ns=sample.timeStamp * 1000, power_w=getattr(sample.sampleValue, member) / 1000)
            for sample in samples
            if sample.timeStamp > last_seen_us
        ]
        return sorted(readings, key=lambda reading: reading.time_ns)

    def read_state(self) -> StateReading:
        """Return clocks, temperature and event reasons now; a reading that fails is None.

        Raises: GpuLostError: the board no longer answers at all.
        """
        nvml = self._nvml
        return StateReading(
            time_ns=self._clock.now_ns(),
            sm_clock_mhz=self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            mem_clock_mhz=self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            temperature_c=self._read_or_none("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            event_reasons=self._read_event_reasons(),
        )

    def read_energy_counter_j(self) -> float:
        """Return the energy since the driver loaded; ticks about every 100 ms and costs about 3 ms."""
        return float(self._call("nvmlDeviceGetTotalEnergyConsumption")) / 1000

    def read_power_limit_w(self) -> float | None:
        """Return the limit in force, None where the board has none."""
        return _watts(self._read_or_none("nvmlDeviceGetPowerManagementLimit"))

    def read_memory_used_bytes(self) -> int | None:
        """Return the memory in use by anybody, None where the board does not say."""
        memory = self._read_or_none("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def read_process_ids(self) -> list[int]:
        """Return the ids of the processes that compute on the board, as the driver's own PID namespace counts them."""
        return [process.pid for process in self._call("nvmlDeviceGetComputeRunningProcesses")]

    def apply(self, request: ClockRequest) -> None:
        """Lock clocks and set the limit as asked; what is None is reset to the board's default.

        Raises: ReadOnlyError before NVML is called in read-only mode; PermissionDeniedError; NotSupportedError;
            ValueError for a value that the board does not support.
        """
        self._require_may_set()
        self._check(request)
        if request.mem_clock_mhz is None:
            self._reset_if_supported("nvmlDeviceResetMemoryLockedClocks")
        else:
            self._set("nvmlDeviceSetMemoryLockedClocks", request.mem_clock_mhz, request.mem_clock_mhz)
        if request.sm_clock_mhz is None:
            self._reset_if_supported("nvmlDeviceResetGpuLockedClocks")
        else:
            self._set("nvmlDeviceSetGpuLockedClocks", request.sm_clock_mhz, request.sm_clock_mhz)
        limit_w = self._info.power_limit_default_w if request.power_limit_w is None else request.power_limit_w
        self._set_power_limit(limit_w)

    def reset(self, power_limit_w: float | None) -> None:
        """Unlock SM and memory clocks and put the power limit back to what it was (None: leave it).

        Raises: ReadOnlyError before NVML is called in read-only mode; PermissionDeniedError.
        """
        self._require_may_set()
        self._reset_if_supported("nvmlDeviceResetGpuLockedClocks")
        self._reset_if_supported("nvmlDeviceResetMemoryLockedClocks")
        self._set_power_limit(power_limit_w)

    def _call(self, function: str, *args: Any) -> Any:
        return call_nvml(self._nvml, function, self._handle, *args)

    def _read_or_none(self, function: str, *args: Any) -> Any:
        try:
            return self._call(function, *args)
        except GpuLostError:
            raise
        except GpuError:
            return None

    def _read_event_reasons(self) -> int | None:
        reasons = self._read_or_none("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # drivers before 535 know it by its older name
            reasons = self._read_or_none("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if reasons is None else int(reasons)

    def _require_may_set(self) -> None:
        if self._read_only:
            raise ReadOnlyError("read-only mode: clocks and limits are left alone; use --clocks apply to set them")
        if environment_forbids_setting():
            raise ReadOnlyError(f"{CLOCKS_VARIABLE} is set to read-only: clocks and limits are left alone")

    def _set(self, function: str, *args: Any) -> None:
        """The only way to a function of NVML that changes the board: the permission is asked for at every call."""
        self._require_may_set()
        self._call(function, *args)

    def _reset_if_supported(self, function: str) -> None:
        with suppress(NotSupportedError):  # what cannot be locked is not locked
            self._set(function)

    def _set_power_limit(self, limit_w: float | None) -> None:
        if limit_w is not None and limit_w != self.read_power_limit_w():
            self._set("nvmlDeviceSetPowerManagementLimit", round(limit_w * 1000))

    def _check(self, request: ClockRequest) -> None:
        info = self._info
        _check_clock("SM", request.sm_clock_mhz, info.sm_clocks_mhz)
        _check_clock("memory", request.mem_clock_mhz, info.mem_clocks_mhz)
        limit_w, low_w, high_w = request.power_limit_w, info.power_limit_min_w, info.power_limit_max_w
        if limit_w is None or limit_w == self.read_power_limit_w():
            return
        if low_w is None or high_w is None:
            raise NotSupportedError(f"{info.name} has no power limit to set")
        if not low_w <= limit_w <= high_w:
            raise ValueError(f"a power limit of {limit_w:g} W is outside this board's {low_w:g} to {high_w:g} W")

    def _refuse_mig(self) -> None:
        mode = self._read_or_none("nvmlDeviceGetMigMode")
        if mode is not None and mode[0] == 1:
            raise NotSupportedError(
                "this board is split by MIG, and its instances have no power or clocks of their own; "
                "choose another board, or switch MIG off"
            )

    def _read_info(self) -> GpuInfo:
        mem_clocks_mhz = sorted(set(self._read_or_none("nvmlDeviceGetSupportedMemoryClocks") or ()))
        sm_clocks_mhz: set[int] = set()
        if mem_clocks_mhz:
            highest_mhz = mem_clocks_mhz[-1]
            sm_clocks_mhz = set(self._read_or_none("nvmlDeviceGetSupportedGraphicsClocks", highest_mhz) or ())
        constraints = self._read_or_none("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
        memory = self._read_or_none("nvmlDeviceGetMemoryInfo")
        persistence = self._read_or_none("nvmlDeviceGetPersistenceMode")
        return GpuInfo(
            uuid=_text(self._call("nvmlDeviceGetUUID")),
            index=self._call("nvmlDeviceGetIndex"),
            name=_text(self._call("nvmlDeviceGetName")),
            driver_version=_text(call_nvml(self._nvml, "nvmlSystemGetDriverVersion")),
            simulated=getattr(self._nvml, "simulated", False),
            sm_clocks_mhz=tuple(sorted(sm_clocks_mhz)),
            mem_clocks_mhz=tuple(mem_clocks_mhz),
            power_limit_min_w=_watts(constraints[0]),
            power_limit_max_w=_watts(constraints[1]),
            power_limit_default_w=_watts(self._read_or_none("nvmlDeviceGetPowerManagementDefaultLimit")),
            memory_total_bytes=None if memory is None else int(memory.total),
            persistence_mode=None if persistence is None else persistence == 1,
        )


def _check_clock(what: str, clock_mhz: int | None, supported_mhz: tuple[int, ...]) -> None:
    if clock_mhz is None or clock_mhz in supported_mhz:
        return
    if not supported_mhz:
        raise NotSupportedError(f"this board does not say which {what} clocks it supports")
    raise ValueError(
        f"{clock_mhz} MHz is not a {what} clock of this board, which has {len(supported_mhz)} of them "
        f"from {supported_mhz[0]} to {supported_mhz[-1]} MHz"
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
