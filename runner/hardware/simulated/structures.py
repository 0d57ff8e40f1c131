"""The structures of NVML that the simulated driver fills, under the names of the `pynvml` module."""

# ruff: noqa: N815 - the names are NVML's

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SampleValue:
    """NVML's union of values, filled with an unsigned integer of 32 bits."""

    uiVal: int


@dataclass(frozen=True, slots=True)
class CounterValue:
    """NVML's union of values, filled with an unsigned integer of 64 bits."""

    ullVal: int


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
    value: SampleValue | CounterValue


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the GPU's memory."""

    total: int
    free: int
    used: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process that computes on the GPU."""

    pid: int
    usedGpuMemory: int | None


@dataclass(frozen=True, slots=True)
class ViolationTime:
    """How long a policy has held clocks down since the driver loaded, in ns, up to an instant in µs since the epoch."""

    referenceTime: int
    violationTime: int
