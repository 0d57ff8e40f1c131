"""NvmlGpu: the one real implementation of `Gpu`, over the `pynvml` module or the simulated one.

In: NVML's milliwatts, millijoules, microseconds and error codes. Out: W, J, ns and typed `GpuError`s.
"""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runner.hardware.access.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.access.sudo import SudoNvml, uses_sudo
from runner.hardware.gpu import (
    ClockRequest,
    GpuError,
    GpuInfo,
    GpuLostError,
    NoGpuError,
    NotSupportedError,
    PowerReading,
    ReadOnlyError,
    Setting,
    StateReading,
    ThrottleTimes,
)
from runner.hardware.nvml.calls import call_nvml, read_power_field, read_power_samples
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import TimeSource, WallTime

_POWER_POLICY, _THERMAL_POLICY = 0, 1
_OTHER_POLICIES = (2, 3, 5)
"""nvmlPerfPolicyType_t: sync boost, GPU limit, reliability. The others are no throttling (low use) or sums."""


def open_nvml(request: str, time_source: TimeSource, state_dir: Path | None = None) -> Any:
    """Return the NVML to use: a `SimulatedNvml` for "sim", "sim:h200x4" and the like, else `pynvml`, initialised.

    With SWEEP_SETTER=sudo, what sets or resets a real GPU goes through sudo.

    Args:
        clock: the time of simulated GPUs; real ones keep their own.
        state_dir: where simulated GPUs keep their state; by default SWEEP_SIMULATED_STATE's.
    Raises: NoGpuError: there is no NVIDIA driver here. ValueError: as `SimulatedNvml`.
    """
    if is_simulated(request):
        return SimulatedNvml(request, time_source, state_dir)
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGpuError(
            f"no NVIDIA driver answers here (nvmlInit: {error}); use a machine with one, "
            "or --gpu sim for the simulated GPU"
        ) from error
    return SudoNvml(pynvml) if uses_sudo() else pynvml


def is_simulated(request: str) -> bool:
    """Return whether a `--gpu` value asks for simulated GPUs."""
    return request == "sim" or request.startswith("sim:")


class NvmlGpu:
    """One GPU behind NVML (the `Gpu` protocol).

    Args:
        nvml: the `pynvml` module, initialised, or a `SimulatedNvml`; see `open_nvml`.
        index_or_uuid: NVML's index, or the GPU's full UUID.
        read_only: refuse every setting before NVML is called; SWEEP_CLOCKS=read-only does so too.
    Raises: NotSupportedError: the GPU is split by MIG, whose instances have no power or clocks of their own.
    """

    def __init__(self, nvml: Any, index_or_uuid: int | str, *, read_only: bool) -> None:
        self._nvml = nvml
        self._time_source: TimeSource = getattr(nvml, "time_source", None) or WallTime()
        self._read_only = read_only
        kind = "Index" if isinstance(index_or_uuid, int) else "UUID"
        self._handle = call_nvml(nvml, f"nvmlDeviceGetHandleBy{kind}", index_or_uuid)
        self._refuse_mig()
        self._info = self._read_info()

    @property
    def info(self) -> GpuInfo:
        """The GPU's fixed facts, read once."""
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
        return read_power_samples(self._nvml, self._handle, after_ns)

    def read_instant_power(self) -> PowerReading:
        """Return the newest instantaneous power (NVML_FI_DEV_POWER_INSTANT) with the field's own stamp."""
        return read_power_field(self._nvml, self._handle, "NVML_FI_DEV_POWER_INSTANT")

    def read_average_power(self) -> PowerReading:
        """Return nvmlDeviceGetPowerUsage: instantaneous on GA100 and older, a one-second average on newer GPUs.

        It has no stamp: `time_ns` is when it was read.
        """
        power_w = float(self._call("nvmlDeviceGetPowerUsage")) / 1000
        return PowerReading(time_ns=self._time_source.now_ns(), power_w=power_w)

    def read_state(self) -> StateReading:
        """Return clocks, temperature and event reasons now; a reading that fails is None.

        Raises: GpuLostError: the GPU no longer answers at all.
        """
        nvml = self._nvml
        return StateReading(
            time_ns=self._time_source.now_ns(),
            sm_clock_mhz=self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            mem_clock_mhz=self._read_or_none("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            temperature_c=self._read_or_none("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            event_reasons=self._read_event_reasons(),
        )

    def read_energy_counter_j(self) -> float:
        """Return the energy since the driver loaded; ticks about every 100 ms and costs about 3 ms."""
        return float(self._call("nvmlDeviceGetTotalEnergyConsumption")) / 1000

    def read_throttle_times(self) -> ThrottleTimes:
        """Return the GPU's cumulative counters of throttling, since the driver loaded; None where it has none.

        Source: nvmlDeviceGetViolationStatus, whose violation times are ns.
        """
        others_s = [self._read_violation_s(policy) for policy in _OTHER_POLICIES]
        known_s = [seconds for seconds in others_s if seconds is not None]
        return ThrottleTimes(
            power_s=self._read_violation_s(_POWER_POLICY),
            thermal_s=self._read_violation_s(_THERMAL_POLICY),
            other_s=sum(known_s) if known_s else None,
        )

    def read_power_limit_w(self) -> float | None:
        """Return the limit in force, None where the GPU has none."""
        return _watts(self._read_or_none("nvmlDeviceGetPowerManagementLimit"))

    def read_memory_used_bytes(self) -> int | None:
        """Return the memory in use by anybody, None where the GPU does not say."""
        memory = self._read_or_none("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def read_process_ids(self) -> list[int]:
        """Return the ids of the processes that compute on the GPU, as the driver's own PID namespace counts them."""
        return [process.pid for process in self._call("nvmlDeviceGetComputeRunningProcesses")]

    def check(self, request: ClockRequest) -> None:
        """Refuse what this GPU does not support; nothing is set. Raises: NotSupportedError, ValueError."""
        info = self._info
        _check_clock("SM", request.sm_clock_mhz, info.sm_clocks_at(request.mem_clock_mhz))
        _check_clock("memory", request.mem_clock_mhz, info.mem_clocks_mhz)
        limit_w, low_w, high_w = request.power_limit_w, info.power_limit_min_w, info.power_limit_max_w
        if limit_w is None or limit_w == self.read_power_limit_w():
            return
        if low_w is None or high_w is None:
            raise NotSupportedError(f"{info.name} has no power limit to set")
        if not low_w <= limit_w <= high_w:
            raise ValueError(f"a power limit of {limit_w:g} W is outside this GPU's {low_w:g} to {high_w:g} W")

    def apply(self, request: ClockRequest) -> None:
        """Lock clocks and set the limit as asked; what is None is left as it is.

        Raises: ReadOnlyError before NVML is called in read-only mode; PermissionDeniedError; NotSupportedError;
            ValueError for a value that the GPU does not support.
        """
        self._require_may_set()
        self.check(request)
        if request.mem_clock_mhz is not None:
            self._set("nvmlDeviceSetMemoryLockedClocks", request.mem_clock_mhz, request.mem_clock_mhz)
        if request.sm_clock_mhz is not None:
            self._set("nvmlDeviceSetGpuLockedClocks", request.sm_clock_mhz, request.sm_clock_mhz)
        if request.power_limit_w is not None:
            self._set_power_limit(request.power_limit_w)

    def reset(self, power_limit_w: float | None, settings: Collection[Setting] | None = None) -> None:
        """Unlock those clocks that `settings` names, and put the power limit back to what it was (None: leave it).

        Args:
            settings: what is known to have been set; None for all that this GPU can set.
        Raises: ReadOnlyError before NVML is called in read-only mode; PermissionDeniedError; what a setting that
            failed raised, after the others were tried.
        """
        self._require_may_set()
        # What cannot be locked is not locked; but what was locked is not unlocked by a driver that cannot do it.
        reset = self._reset_if_supported if settings is None else self._set
        settings = ("sm_clock", "mem_clock", "power_limit") if settings is None else settings
        with ExitStack() as steps:  # run last to first, each of them whatever the others raise
            if "power_limit" in settings and power_limit_w is not None:
                steps.callback(self._set_power_limit, power_limit_w)
            if "mem_clock" in settings:
                steps.callback(reset, "nvmlDeviceResetMemoryLockedClocks")
            if "sm_clock" in settings:
                steps.callback(reset, "nvmlDeviceResetGpuLockedClocks")

    def _call(self, function: str, *args: Any) -> Any:
        return call_nvml(self._nvml, function, self._handle, *args)

    def _read_or_none(self, function: str, *args: Any) -> Any:
        try:
            return self._call(function, *args)
        except GpuLostError:
            raise
        except GpuError:
            return None

    def _read_violation_s(self, policy: int) -> float | None:
        status = self._read_or_none("nvmlDeviceGetViolationStatus", policy)
        return None if status is None else status.violationTime * 1e-9

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
        """The only way to a function of NVML that changes the GPU: the permission is asked for at every call."""
        self._require_may_set()
        self._call(function, *args)

    def _reset_if_supported(self, function: str) -> None:
        with suppress(NotSupportedError):
            self._set(function)

    def _set_power_limit(self, limit_w: float) -> None:
        if limit_w != self.read_power_limit_w():
            self._set("nvmlDeviceSetPowerManagementLimit", round(limit_w * 1000))

    def _refuse_mig(self) -> None:
        try:
            mode = self._call("nvmlDeviceGetMigMode")
        except NotSupportedError:  # a GPU that cannot be split
            return
        if mode[0] == 1:
            raise NotSupportedError(
                "this GPU is split by MIG, and its instances have no power or clocks of their own; "
                "choose another GPU, or switch MIG off"
            )

    def _read_sm_clocks(self, mem_clock_mhz: int) -> tuple[int, ...]:
        return tuple(sorted(set(self._read_or_none("nvmlDeviceGetSupportedGraphicsClocks", mem_clock_mhz) or ())))

    def _read_info(self) -> GpuInfo:
        mem_clocks_mhz = sorted(set(self._read_or_none("nvmlDeviceGetSupportedMemoryClocks") or ()))
        sm_clocks_mhz = {mhz: self._read_sm_clocks(mhz) for mhz in mem_clocks_mhz}
        highest_mhz = sm_clocks_mhz[mem_clocks_mhz[-1]] if mem_clocks_mhz else ()
        constraints = self._read_or_none("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
        memory = self._read_or_none("nvmlDeviceGetMemoryInfo")
        persistence = self._read_or_none("nvmlDeviceGetPersistenceMode")
        return GpuInfo(
            uuid=_text(self._call("nvmlDeviceGetUUID")),
            index=self._call("nvmlDeviceGetIndex"),
            name=_text(self._call("nvmlDeviceGetName")),
            driver_version=_text(call_nvml(self._nvml, "nvmlSystemGetDriverVersion")),
            simulated=getattr(self._nvml, "simulated", False),
            sm_clocks_mhz=highest_mhz,
            mem_clocks_mhz=tuple(mem_clocks_mhz),
            sm_clocks_at_mem_mhz=tuple((mem, sm) for mem, sm in sm_clocks_mhz.items() if sm != highest_mhz),
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
        raise NotSupportedError(f"this GPU does not say which {what} clocks it supports")
    raise ValueError(
        f"{clock_mhz} MHz is not a {what} clock of this GPU, which has {len(supported_mhz)} of them "
        f"from {supported_mhz[0]} to {supported_mhz[-1]} MHz"
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
