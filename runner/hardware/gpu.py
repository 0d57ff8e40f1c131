"""The `Gpu` protocol, its records and its errors: everything that the rest of the program may ask of a GPU.

Units are W, J, MHz, °C, bytes and ns since the epoch. NVML's milliwatts and millijoules stay in `nvml/`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runner.spec.activity import UnitActivity
from runner.spec.operating_point import OperatingPoint, Setting
from runner.spec.throttle import ThrottleReason


class GpuError(Exception):
    """A GPU or its driver failed. The message says what to do next, where anything can be done."""


class NoGpuError(GpuError):
    """This machine has no GPU that may be used."""


class PermissionDeniedError(GpuError):
    """The driver refuses to let this user set clocks or limits."""


class NotSupportedError(GpuError):
    """The GPU has no such reading or setting."""


class ReadOnlyError(GpuError):
    """Nothing may be set in read-only mode. Raised before NVML is called."""


class GpuLostError(GpuError):
    """The GPU no longer answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuInfo:
    """What does not change about a GPU while the program runs. A fact that the GPU does not report is None."""

    uuid: str
    index: int
    """NVML's index, in the order of the PCI bus. CUDA's index may differ."""
    name: str
    driver_version: str
    simulated: bool
    sm_clocks_mhz: tuple[int, ...]
    """Supported SM clocks at the highest memory clock, ascending; empty where the GPU does not report them."""
    mem_clocks_mhz: tuple[int, ...]
    """Supported memory clocks, ascending; empty where the GPU does not report them."""
    sm_clocks_at_mem_mhz: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(memory clock, SM clocks supported there) where they differ from those at the highest memory clock."""
    power_limit_min_w: float | None
    power_limit_max_w: float | None
    power_limit_default_w: float | None
    memory_total_bytes: int | None
    persistence_mode: bool | None

    def sm_clocks_at(self, mem_clock_mhz: int | None) -> tuple[int, ...]:
        """Return the supported SM clocks at a memory clock, ascending. None means the default memory clock."""
        return dict(self.sm_clocks_at_mem_mhz).get(mem_clock_mhz or 0, self.sm_clocks_mhz)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuAddress:
    """How another process opens the same GPU, with `factory.open_gpu`."""

    request: str
    """What `factory.open_nvml` takes: "nvidia", or simulated GPUs such as "sim:h200x4"."""
    uuid: str
    state_dir: Path | None
    """The folder of the simulated GPUs' state; None for a real GPU."""

    @property
    def gpu_state_dir(self) -> Path | None:
        """Return the folder of this simulated GPU's own files; None for a real GPU."""
        return None if self.state_dir is None else self.state_dir / self.uuid


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerReading:
    """Power at one instant, or its mean over the interval that ends there, as the sensor has it."""

    time_ns: int
    power_w: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StateReading:
    """Clocks, temperature and throttle reasons at one instant. A reading that failed is None."""

    time_ns: int
    sm_clock_mhz: int | None
    mem_clock_mhz: int | None
    temperature_c: float | None
    throttle_reasons: ThrottleReason | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThrottleTimes:
    """How long a GPU has been throttled since its driver loaded. A kind that it does not count is None."""

    power_s: float | None
    thermal_s: float | None
    other_s: float | None
    """Sync boost, and the GPU's own limits where the driver counts them."""


@dataclass(frozen=True, kw_only=True)
class ActivityMark:
    """An instant at which a GPU's activity counters were read. Two of them tell the activity between them."""

    sample: Any
    """NVML's own handle. It belongs to the process that made it."""


class Gpu(Protocol):
    """One GPU. Every method may raise `GpuError`, and `GpuLostError` once the GPU no longer answers."""

    @property
    def info(self) -> GpuInfo:
        """The GPU's fixed facts, read once."""
        ...

    @property
    def address(self) -> GpuAddress:
        """How another process opens this GPU."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether settings are refused, because the GPU was opened so or because of SWEEP_CLOCKS."""
        ...

    def read_power_samples(self, after_ns: int) -> list[PowerReading]:
        """Return the samples of the driver's buffer with stamps later than `after_ns`, oldest first."""
        ...

    def read_instant_power(self) -> PowerReading:
        """Return the newest instantaneous power with the driver's stamp. It changes about every 100 ms."""
        ...

    def read_average_power(self) -> PowerReading:
        """Return the driver's usual power reading, stamped when it was read. A probe finds its averaging window."""
        ...

    def read_memory_power(self) -> PowerReading:
        """Return what the GPU's memory draws, of the GPU's own power: a mean over the second before, on an H200.

        Raises: NotSupportedError: the GPU does not tell its memory from the rest. Many do not.
        """
        ...

    def mark_activity(self) -> ActivityMark:
        """Read the activity counters now. This takes less than a millisecond.

        Raises: NotSupportedError: the GPU has none. They came with Hopper.
        """
        ...

    def read_activity(self, first: ActivityMark, last: ActivityMark) -> UnitActivity:
        """Return how busy the GPU's units were between two marks, at least 0.1 s apart."""
        ...

    def read_state(self) -> StateReading:
        """Return clocks, temperature and throttle reasons now. This takes microseconds."""
        ...

    def read_energy_counter_j(self) -> float:
        """Return the energy since the driver loaded. It ticks about every 100 ms, and a call takes about 3 ms."""
        ...

    def read_throttle_times(self) -> ThrottleTimes:
        """Return the cumulative times of throttling since the driver loaded."""
        ...

    def read_power_limit_w(self) -> float | None:
        """Return the power limit in force; None where the GPU has none."""
        ...

    def read_memory_used_bytes(self) -> int | None:
        """Return the memory in use, by any process; None where the GPU does not report it."""
        ...

    def read_process_ids(self) -> list[int]:
        """Return the ids of the processes that compute on the GPU, in the driver's PID namespace."""
        ...

    def check(self, point: OperatingPoint) -> None:
        """Refuse an operating point that this GPU does not support. Nothing is set.

        Raises: NotSupportedError: the GPU has no such setting. ValueError: the value is outside its range.
        """
        ...

    def apply(self, point: OperatingPoint) -> None:
        """Lock the clocks and set the power limit of an operating point. Parts that are None stay as they are.

        Raises: ReadOnlyError: read-only mode; raised before NVML is called. PermissionDeniedError, NotSupportedError.
            ValueError: the GPU does not support a value.
        """
        ...

    def reset(self, power_limit_w: float | None, settings: Collection[Setting] | None = None) -> None:
        """Unlock the clocks that `settings` names, and set the power limit back.

        Args:
            power_limit_w: the limit to set; None leaves the limit as it is.
            settings: what has been set; None means everything that the GPU can set.
        Raises: ReadOnlyError: read-only mode; raised before NVML is called. PermissionDeniedError. The error of a
            setting that failed, after the others were tried.
        """
        ...
