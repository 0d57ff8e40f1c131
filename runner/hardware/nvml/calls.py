"""Calls of NVML with typed errors, and its power readings: mW, µs and codes enter, W, ns and `GpuError`s leave."""

from collections.abc import Sequence
from typing import Any

from runner.hardware.access.permission import WAYS_OUT
from runner.hardware.gpu import (
    GpuError,
    GpuLostError,
    NoGpuError,
    NotSupportedError,
    PermissionDeniedError,
    PowerReading,
)

_VALUE_FIELDS = {1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}
"""Members of NVML's value union that can hold mW or ns, by nvmlValueType_t: no double, and no 16 bits (65 W)."""
MAX_POWER_W = 10_000.0
"""More than any GPU draws. A union that was filled as another type than it says decodes to any number."""


def call_nvml(nvml: Any, function: str, *args: Any) -> Any:
    """Return what a function of NVML returns.

    Raises: NotSupportedError, PermissionDeniedError, GpuLostError, NoGpuError, GpuError: by NVML's error code.
    """
    implementation = getattr(nvml, function, None)
    if implementation is None:
        raise NotSupportedError(f"this version of nvidia-ml-py has no {function}")
    try:
        return implementation(*args)
    except nvml.NVMLError as error:
        raise typed_error(nvml, error, function) from error


def read_or_none(nvml: Any, function: str, *args: Any) -> Any:
    """Return what `call_nvml` returns; None where the call fails. Raises: GpuLostError."""
    try:
        return call_nvml(nvml, function, *args)
    except GpuLostError:
        raise
    except GpuError:
        return None


def typed_error(nvml: Any, error: Any, function: str) -> GpuError:
    """Return the `GpuError` for an NVMLError of a function."""
    code = error.value
    if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
        return NotSupportedError(f"{function}: not supported by this GPU or driver")
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return PermissionDeniedError(f"{function}: the driver does not permit it. Ways out: {WAYS_OUT}")
    if code in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
        return GpuLostError(f"{function}: the GPU no longer answers ({error}); see dmesg, then reset it or reboot")
    if code in (nvml.NVML_ERROR_DRIVER_NOT_LOADED, nvml.NVML_ERROR_LIBRARY_NOT_FOUND):
        return NoGpuError(f"{function}: no NVIDIA driver answers here ({error})")
    return GpuError(f"{function}: {error}")


def read_power_samples(nvml: Any, handle: Any, after_ns: int) -> list[PowerReading]:
    """Return the samples of the driver's buffer with stamps later than `after_ns`, oldest first. Raises: GpuError."""
    last_seen_us = max(after_ns // 1000, 0)
    try:
        value_type, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, last_seen_us)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_FOUND:  # nothing new
            return []
        raise typed_error(nvml, error, "nvmlDeviceGetSamples") from error
    readings = [
        PowerReading(
            time_ns=sample.timeStamp * 1000,
            power_w=_decode_power("nvmlDeviceGetSamples", value_type, sample.sampleValue),
        )
        for sample in samples
        if sample.timeStamp > last_seen_us
    ]
    return sorted(readings, key=lambda reading: reading.time_ns)


def read_power_field(nvml: Any, handle: Any, field_name: str, scope: int | None = None) -> PowerReading:
    """Return a power field of the GPU, e.g. NVML_FI_DEV_POWER_INSTANT, with the field's own stamp.

    Args:
        scope: what part of the GPU is meant, e.g. NVML_POWER_SCOPE_MEMORY; None is the whole.
    Raises: NotSupportedError: the GPU, its driver or this nvidia-ml-py lacks the field. GpuError.
    """
    field_id = getattr(nvml, field_name, None)
    if field_id is None:
        raise NotSupportedError(f"this version of nvidia-ml-py has no {field_name}")
    asked = field_id if scope is None else (field_id, scope)
    field = call_nvml(nvml, "nvmlDeviceGetFieldValues", handle, [asked])[0]
    if scope is not None and field.nvmlReturn == nvml.NVML_ERROR_INVALID_ARGUMENT:  # of a driver without scopes
        raise NotSupportedError(f"{field_name} at scope {scope}: not supported by this GPU or driver")
    if field.nvmlReturn != 0:  # the call succeeds even where a field fails
        raise typed_error(nvml, nvml.NVMLError(field.nvmlReturn), field_name)
    return PowerReading(time_ns=field.timestamp * 1000, power_w=_decode_power(field_name, field.valueType, field.value))


def read_counter_fields(nvml: Any, handle: Any, field_names: Sequence[str]) -> list[int | GpuError]:
    """Return the counters of some fields, in their own unit; the error of each that has no answer.

    Raises: NotSupportedError: this nvidia-ml-py lacks one of them. GpuLostError. GpuError: the call as a whole failed.
    """
    field_ids = [getattr(nvml, name, None) for name in field_names]
    if None in field_ids:
        raise NotSupportedError(f"this version of nvidia-ml-py has no {field_names[field_ids.index(None)]}")
    fields = call_nvml(nvml, "nvmlDeviceGetFieldValues", handle, field_ids)
    counters = [_decode_counter(nvml, name, field) for name, field in zip(field_names, fields, strict=True)]
    for counter in counters:
        if isinstance(counter, GpuLostError):
            raise counter
    return counters


def _decode_counter(nvml: Any, name: str, field: Any) -> int | GpuError:
    if field.nvmlReturn == nvml.NVML_ERROR_INVALID_ARGUMENT:  # of a driver that does not know the field
        return NotSupportedError(f"{name}: not supported by this GPU or driver")
    if field.nvmlReturn != 0:
        return typed_error(nvml, nvml.NVMLError(field.nvmlReturn), name)
    member = _VALUE_FIELDS.get(field.valueType)
    if member is None:
        return GpuError(f"{name}: a counter in value type {field.valueType}, which cannot hold it")
    return int(getattr(field.value, member))


def _decode_power(source: str, value_type: int, value: Any) -> float:
    """Return W from the mW in NVML's union.

    Raises: GpuError: no GPU draws so much or so little. One such sample voids the others of its call.
    """
    member = _VALUE_FIELDS.get(value_type)
    if member is None:
        raise GpuError(f"{source}: power in value type {value_type}, which cannot hold it")
    power_w = float(getattr(value, member)) / 1000
    if not 0.0 < power_w <= MAX_POWER_W:
        raise GpuError(f"{source}: {power_w:g} W in value type {value_type}, which no GPU draws")
    return power_w
