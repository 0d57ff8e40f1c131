"""What the rest of the program may ask of a GPU: the `Gpu` protocol, its records and its errors.

Units are W, J, MHz, °C, bytes and ns since the epoch. NVML's milliwatts and millijoules stay in `nvml/`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runner.spec.operating_point import OperatingPoint, Setting
from runner.spec.throttle import ThrottleReason


class GpuError(Exception):
    """Something a GPU, or its driver, did not do. The message says what to do next where anything can be done."""


class NoGpuError(GpuError):
    """There is no GPU here that may be used."""


class PermissionDeniedError(GpuError):
    """The driver refuses to let this user set clocks or limits."""


class NotSupportedError(GpuError):
    """This GPU has no such reading or setting."""


class ReadOnlyError(GpuError):
    """Read-only mode: nothing may be set. Raised before NVML is called."""


class GpuLostError(GpuError):
    """The GPU no longer answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuInfo:
    """What does not change about a GPU while the program runs; None where the GPU does not say."""

    uuid: str
    index: int
    """NVML's index (PCI bus order), which is not CUDA's."""
    name: str
    driver_version: str
    simulated: bool
    sm_clocks_mhz: tuple[int, ...]
    """Supported SM clocks at the highest memory clock, ascending; empty where the GPU does not say."""
    mem_clocks_mhz: tuple[int, ...]
    """Supported memory clocks, ascending."""
    sm_clocks_at_mem_mhz: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(memory clock, SM clocks supported there) where they are not those of the highest memory clock."""
    power_limit_min_w: float | None
    power_limit_max_w: float | None
    power_limit_default_w: float | None
    memory_total_bytes: int | None
    persistence_mode: bool | None

    def sm_clocks_at(self, mem_clock_mhz: int | None) -> tuple[int, ...]:
        """Return the SM clocks supported at a memory clock, ascending; None: at the GPU's default."""
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
    """Power at one instant, or over the interval that ends there: which it is, the sensor decides."""

    time_ns: int
    power_w: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StateReading:
    """Clocks, temperature and throttle reasons at one instant; None where a reading failed."""

    time_ns: int
    sm_clock_mhz: int | None
    mem_clock_mhz: int | None
    temperature_c: float | None
    throttle_reasons: ThrottleReason | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThrottleTimes:
    """For how long a GPU has run below the clock it was meant to run at, by reason; None where it does not count."""

    power_s: float | None
    thermal_s: float | None
    other_s: float | None
    """Limits of the GPU, of its reliability, and of GPUs that are clocked together."""


class Gpu(Protocol):
    """One GPU. Every method may raise `GpuError`."""

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
        """Whether settings are refused, by whoever opened the GPU or by SWEEP_CLOCKS."""
        ...

    def read_power_samples(self, after_ns: int) -> list[PowerReading]:
        """Return what the driver's sample buffer holds with stamps later than `after_ns`, oldest first."""
        ...

    def read_instant_power(self) -> PowerReading:
        """Return the newest instantaneous power, with the driver's own stamp; changes about every 100 ms."""
        ...

    def read_average_power(self) -> PowerReading:
        """Return the driver's usual power reading, stamped when it was read; over what it averages, a probe finds."""
        ...

    def read_state(self) -> StateReading:
        """Return clocks, temperature and throttle reasons now; costs microseconds."""
        ...

    def read_energy_counter_j(self) -> float:
        """Return the energy since the driver loaded; ticks about every 100 ms and costs about 3 ms."""
        ...

    def read_throttle_times(self) -> ThrottleTimes:
        """Return the GPU's cumulative counters of throttling, since the driver loaded."""
        ...

    def read_power_limit_w(self) -> float | None:
        """Return the limit in force, None where the GPU has none."""
        ...

    def read_memory_used_bytes(self) -> int | None:
        """Return the memory in use by anybody."""
        ...

    def read_process_ids(self) -> list[int]:
        """Return the ids of the processes that compute on the GPU."""
        ...

    def check(self, request: OperatingPoint) -> None:
        """Refuse an operating point that this GPU does not support. Nothing is set.

        Raises: NotSupportedError: the GPU has no such setting. ValueError: the value is outside its range.
        """
        ...

    def apply(self, request: OperatingPoint) -> None:
        """Lock clocks and set the limit as asked; what is None is left as it is.

        Raises: ReadOnlyError before NVML is called in read-only mode; PermissionDeniedError; NotSupportedError;
            ValueError for a value that the GPU does not support.
        """
        ...

    def reset(self, power_limit_w: float | None, settings: Collection[Setting] | None = None) -> None:
        """Unlock those clocks that `settings` names, and put the power limit back to what it was (None: leave it).

        Args:
            settings: what is known to have been set; None for all that the GPU can set.
        Raises: ReadOnlyError before NVML is called in read-only mode; what a setting that failed raised, after the
            others were tried.
        """
        ...
