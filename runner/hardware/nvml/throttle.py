"""Why and for how long a GPU was throttled: NVML's bits and counters enter, our flags and seconds leave."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from runner.hardware.gpu import GpuError, GpuLostError, NotSupportedError, ThrottleTimes
from runner.hardware.nvml.calls import call_nvml, read_counter_fields
from runner.spec.throttle import ThrottleReason

_REASONS = {
    0x1: ThrottleReason.IDLE,  # nvmlClocksEventReasonGpuIdle
    0x2: ThrottleReason.APPLICATION_CLOCKS,  # nvmlClocksEventReasonApplicationsClocksSetting
    0x4: ThrottleReason.POWER_CAP,  # nvmlClocksEventReasonSwPowerCap
    0x8: ThrottleReason.HARDWARE_SLOWDOWN,  # nvmlClocksEventReasonHwSlowdown
    0x10: ThrottleReason.SYNC_BOOST,  # nvmlClocksEventReasonSyncBoost
    0x20: ThrottleReason.SOFTWARE_THERMAL,  # nvmlClocksEventReasonSwThermalSlowdown
    0x40: ThrottleReason.HARDWARE_THERMAL,  # nvmlClocksEventReasonHwThermalSlowdown
    0x80: ThrottleReason.POWER_BRAKE,  # nvmlClocksEventReasonHwPowerBrakeSlowdown
    0x100: ThrottleReason.DISPLAY_CLOCK,  # nvmlClocksEventReasonDisplayClockSetting
}

_FIELD = "NVML_FI_DEV_CLOCKS_EVENT_REASON_"
_POWER_FIELDS = (f"{_FIELD}SW_POWER_CAP", f"{_FIELD}HW_POWER_BRAKE_SLOWDOWN")
_THERMAL_FIELDS = (f"{_FIELD}SW_THERM_SLOWDOWN", f"{_FIELD}HW_THERM_SLOWDOWN")
_OTHER_FIELDS = (f"{_FIELD}SYNC_BOOST",)

_POWER_POLICIES = (0,)
"""NVML_PERF_POLICY_POWER."""
_THERMAL_POLICIES = (1,)
"""NVML_PERF_POLICY_THERMAL."""
_OTHER_POLICIES = (2, 3, 5)
"""NVML_PERF_POLICY_SYNC_BOOST, _BOARD_LIMIT and _RELIABILITY. Of the others, some are sums and one is no throttling."""


@cache
def translate_reasons(bits: int) -> ThrottleReason:
    """Return the reasons that NVML's bits mean. Bits that NVML has retired, or adds later, are left out."""
    reasons = ThrottleReason.NONE
    for bit, reason in _REASONS.items():
        if bits & bit:
            reasons |= reason
    return reasons


def read_times_by_fields(nvml: Any, handle: Any) -> ThrottleTimes:
    """Return the cumulative times of the fields `NVML_FI_DEV_CLOCKS_EVENT_REASON_*`, which count ns.

    Raises: NotSupportedError: the driver counts no power or no thermal reason in this way. GpuLostError, GpuError.
    """
    names = (*_POWER_FIELDS, *_THERMAL_FIELDS, *_OTHER_FIELDS)
    counters = dict(zip(names, read_counter_fields(nvml, handle, names), strict=True))
    for fields in (_POWER_FIELDS, _THERMAL_FIELDS):
        if all(isinstance(counters[name], NotSupportedError) for name in fields):
            raise NotSupportedError(f"{fields[0]}: not supported by this GPU or driver")
    return ThrottleTimes(
        power_s=_add_up(counters[name] for name in _POWER_FIELDS),
        thermal_s=_add_up(counters[name] for name in _THERMAL_FIELDS),
        other_s=_add_up(counters[name] for name in _OTHER_FIELDS),
    )


def read_times_by_policies(nvml: Any, handle: Any) -> ThrottleTimes:
    """Return the cumulative times of nvmlDeviceGetViolationStatus, which CUDA 13 deprecates.

    Raises: GpuLostError. GpuError: no policy answers.
    """
    policies = (*_POWER_POLICIES, *_THERMAL_POLICIES, *_OTHER_POLICIES)
    counters = {policy: _read_violation_ns(nvml, handle, policy) for policy in policies}
    errors = [counter for counter in counters.values() if isinstance(counter, GpuError)]
    if len(errors) == len(counters):
        raise errors[0]
    return ThrottleTimes(
        power_s=_add_up(counters[policy] for policy in _POWER_POLICIES),
        thermal_s=_add_up(counters[policy] for policy in _THERMAL_POLICIES),
        other_s=_add_up(counters[policy] for policy in _OTHER_POLICIES),
    )


def _read_violation_ns(nvml: Any, handle: Any, policy: int) -> int | GpuError:
    try:
        return int(call_nvml(nvml, "nvmlDeviceGetViolationStatus", handle, policy).violationTime)
    except GpuLostError:
        raise
    except GpuError as error:
        return error


def _add_up(counters: Iterable[int | GpuError]) -> float | None:
    """Return the seconds of the counters that the GPU has.

    None where it has none, or where one that it has could not be read: the sum would be too small.
    """
    seconds = []
    for counter in counters:
        if isinstance(counter, int):
            seconds.append(counter * 1e-9)
        elif not isinstance(counter, NotSupportedError):
            return None
    return sum(seconds) if seconds else None
