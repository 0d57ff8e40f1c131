"""The GPU model: how long a step of an engine takes, and what the GPU draws meanwhile.

For each step, with compute time t_c and memory time t_m at the reference clocks f0 and m0:

    k = ( ((t_c + rho*t_m) * f0/f)^p + (t_m * (m0/m)^q)^p )^(1/p)          t = t_host + k
    P = P_idle(f, m) + ( (V/V0)^2 * (A_busy*k*f/f0 + A_c*t_c + A_x*t_m) + A_m*t_m ) / t

V falls linearly with f and levels off. Under a power limit the highest supported clock whose power fits runs. Work and
an operating point enter, seconds and watts leave. docs/physics.md says what each constant was fitted to.
"""

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib.resources import files
from typing import Any

from runner.physics.shape import ModelShape, StepWork
from runner.spec.operating_point import OperatingPoint

DEFAULT_GPU = "h200"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepParts:
    """What the parts of the GPU do in a step: means over its time."""

    memory_power_w: float = 0.0
    """What the memory draws, of the GPU's power."""
    tensor_active_fraction: float = 0.0
    """Share of the peak arithmetic at the clock that runs."""
    dram_active_fraction: float = 0.0
    """Share of the memory's peak bandwidth at its clock."""
    sm_active_fraction: float = 0.0
    """Share of the time in which a kernel runs."""

    def spread(self, factor: float, memory_rest_w: float) -> "StepParts":
        """Return the means where the same work takes `factor` times as long."""
        return StepParts(
            memory_power_w=memory_rest_w + (self.memory_power_w - memory_rest_w) / factor,
            tensor_active_fraction=self.tensor_active_fraction / factor,
            dram_active_fraction=self.dram_active_fraction / factor,
            sm_active_fraction=self.sm_active_fraction / factor,
        )


AT_REST = StepParts()
"""No work. What the memory draws at rest is added where the clocks are known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """What one step takes and draws."""

    duration_s: float
    power_w: float
    sm_clock_mhz: int
    """The clock that ran: the requested one, or a lower one under the power limit."""
    mem_clock_mhz: int
    power_capped: bool
    parts: StepParts


@dataclass(frozen=True, kw_only=True)
class GpuModel:
    """One kind of GPU: what it supports, and the constants of its step times and its power."""

    name: str
    sm_clocks_mhz: tuple[int, ...]
    """Supported SM clocks, ascending; the last is the reference clock f0."""
    mem_clocks_mhz: tuple[int, ...]
    """Supported memory clocks, ascending; the last is the reference clock m0."""
    power_limit_min_w: float
    power_limit_default_w: float
    power_limit_max_w: float
    memory_total_bytes: int
    settle_s: float
    """Time from a request for a clock or a limit until it holds."""

    flops_per_s: float
    bytes_per_s: float
    host_s_per_step: float
    host_s_per_layer: float
    host_s_per_decode_token: float
    """Scheduling, sampling and delivery, for each request that decodes."""
    turnaround_s: float
    """Time from the end of a request to the start of the next one: the engine's front end and the caller take it."""
    admission_s: float
    """Additional turnaround for each further request that is admitted at the same instant."""
    sm_share_of_memory_time: float
    """rho: the share of the memory time that is also spent in the SMs' clock domain (caches, address arithmetic)."""
    overlap_exponent: float
    """p: how sharply the longer of SM time and memory time hides the shorter. An infinite p would be a roofline."""
    mem_clock_exponent: float
    """q: bandwidth falls with the memory clock to this power."""

    voltage_floor: float
    """V/V0 at and below the clock where the voltage levels off."""
    voltage_floor_clock: float
    """The clock where the voltage levels off, as a share of f0."""
    idle_low_w: float
    """Idle power at the lowest SM clock and m0."""
    idle_high_w: float
    """Idle power at f0 and m0."""
    mem_idle_w: float
    """The part of both idle powers that falls in proportion to the memory clock."""
    busy_w: float
    """A_busy: power of clocking the SMs while a kernel runs, at f0."""
    compute_w: float
    """A_c: power of arithmetic at the full rate of f0."""
    traffic_w: float
    """A_x: power of moving bytes through the SMs' voltage domain at the full rate of m0, at V0."""
    memory_w: float
    """A_m: power of moving bytes in the memory itself at the full rate of m0."""

    sensed_memory_rest_w: float
    """The part of both idle powers, at m0, that NVML's memory scope shows."""
    sensed_memory_traffic_w: float
    """The part of A_m that NVML's memory scope shows."""
    peak_flops_per_s: float
    """The tensor cores' peak at f0, of which the GPU's activity counters tell the share."""
    peak_bytes_per_s: float
    """The memory's peak at m0, of which the GPU's activity counters tell the share."""

    def step(self, shape: ModelShape, work: StepWork, point: OperatingPoint) -> StepOutcome:
        """Return how long a step takes and what it draws at an operating point with supported clocks.

        Where no supported clock keeps to the power limit, the lowest clock runs and the power exceeds the limit.
        """
        asked_mhz = point.sm_clock_mhz or self.sm_clocks_mhz[-1]
        mem_clock_mhz = point.mem_clock_mhz or self.mem_clocks_mhz[-1]
        limit_w = point.power_limit_w or self.power_limit_default_w
        host_s = (
            self.host_s_per_step
            + self.host_s_per_layer * shape.num_layers
            + self.host_s_per_decode_token * work.num_decode_tokens
        )
        num_flops, num_bytes = shape.flops(work), shape.bytes(work)
        at_clock = partial(
            self._at_clock, num_flops / self.flops_per_s, num_bytes / self.bytes_per_s, host_s, mem_clock_mhz
        )
        clock_mhz = asked_mhz
        duration_s, power_w = at_clock(asked_mhz)
        if power_w > limit_w:
            # Power rises with the clock, so the clocks within the limit come first.
            lower = self.sm_clocks_mhz[: bisect_left(self.sm_clocks_mhz, asked_mhz)] or (asked_mhz,)
            num_within = bisect_right(lower, limit_w, key=lambda mhz: at_clock(mhz)[1])
            clock_mhz = lower[max(num_within - 1, 0)]
            duration_s, power_w = at_clock(clock_mhz)
        peak_flops_per_s = self.peak_flops_per_s * clock_mhz / self.sm_clocks_mhz[-1]
        peak_bytes_per_s = self.peak_bytes_per_s * mem_clock_mhz / self.mem_clocks_mhz[-1]
        return StepOutcome(
            duration_s=duration_s,
            power_w=power_w,
            sm_clock_mhz=clock_mhz,
            mem_clock_mhz=mem_clock_mhz,
            power_capped=clock_mhz != asked_mhz,
            parts=StepParts(
                memory_power_w=self.memory_rest_w(mem_clock_mhz)
                + self.sensed_memory_traffic_w * num_bytes / self.bytes_per_s / duration_s,
                tensor_active_fraction=num_flops / peak_flops_per_s / duration_s,
                dram_active_fraction=num_bytes / peak_bytes_per_s / duration_s,
                sm_active_fraction=1 - host_s / duration_s,
            ),
        )

    def memory_rest_w(self, mem_clock_mhz: int | None = None) -> float:
        """Return what the memory draws of the idle power; None means the highest memory clock."""
        mem_clock_share = (mem_clock_mhz or self.mem_clocks_mhz[-1]) / self.mem_clocks_mhz[-1]
        return self.sensed_memory_rest_w - self.mem_idle_w * (1 - mem_clock_share)

    def idle_power_w(self, sm_clock_mhz: int | None = None, mem_clock_mhz: int | None = None) -> float:
        """Return the idle power at a pair of clocks; None means the highest clock."""
        lowest, highest = self._dynamic_scale(self.sm_clocks_mhz[0]), self._dynamic_scale(self.sm_clocks_mhz[-1])
        scale = self._dynamic_scale(sm_clock_mhz or self.sm_clocks_mhz[-1])
        mem_clock_share = (mem_clock_mhz or self.mem_clocks_mhz[-1]) / self.mem_clocks_mhz[-1]
        above_low_w = (self.idle_high_w - self.idle_low_w) * (scale - lowest) / (highest - lowest)
        return self.idle_low_w + above_low_w - self.mem_idle_w * (1 - mem_clock_share)

    def _at_clock(
        self, compute_s: float, traffic_s: float, host_s: float, mem_clock_mhz: int, sm_clock_mhz: int
    ) -> tuple[float, float]:
        """Return (duration_s, power_w) at one pair of clocks. `compute_s` is for f0, `traffic_s` for m0."""
        stretch, voltage_squared, mem_stretch, idle_w = self._clock_terms(sm_clock_mhz, mem_clock_mhz)
        exponent = self.overlap_exponent
        sm_s = (compute_s + self.sm_share_of_memory_time * traffic_s) * stretch
        kernel_s = (sm_s**exponent + (traffic_s * mem_stretch) ** exponent) ** (1 / exponent)
        duration_s = host_s + kernel_s
        sm_j = self.busy_w * kernel_s / stretch + self.compute_w * compute_s + self.traffic_w * traffic_s
        return duration_s, idle_w + (voltage_squared * sm_j + self.memory_w * traffic_s) / duration_s

    def _clock_terms(self, sm_clock_mhz: int, mem_clock_mhz: int) -> tuple[float, float, float, float]:
        """Return (f0/f, (V/V0)^2, stretch of the memory time, idle power in W) at a pair of clocks, computed once."""
        clocks = sm_clock_mhz, mem_clock_mhz
        if clocks not in self._terms_by_clocks:
            self._terms_by_clocks[clocks] = (
                self.sm_clocks_mhz[-1] / sm_clock_mhz,
                self._voltage(sm_clock_mhz) ** 2,
                (self.mem_clocks_mhz[-1] / mem_clock_mhz) ** self.mem_clock_exponent,
                self.idle_power_w(sm_clock_mhz, mem_clock_mhz),
            )
        return self._terms_by_clocks[clocks]

    @cached_property
    def _terms_by_clocks(self) -> dict[tuple[int, int], tuple[float, float, float, float]]:
        return {}

    def _dynamic_scale(self, sm_clock_mhz: int) -> float:
        """Return (V/V0)^2 f/f0."""
        return self._voltage(sm_clock_mhz) ** 2 * sm_clock_mhz / self.sm_clocks_mhz[-1]

    def _voltage(self, sm_clock_mhz: int) -> float:
        """Return V/V0."""
        share = sm_clock_mhz / self.sm_clocks_mhz[-1]
        above_floor = max(share - self.voltage_floor_clock, 0.0) / (1 - self.voltage_floor_clock)
        return self.voltage_floor + (1 - self.voltage_floor) * above_floor


_GPUS = files("runner.physics") / "gpu_models"


def gpu_model_names() -> list[str]:
    """Return the names that `load_gpu_model` knows."""
    return sorted(entry.name.removesuffix(".json") for entry in _GPUS.iterdir() if entry.name.endswith(".json"))


@lru_cache
def load_gpu_model(name: str = DEFAULT_GPU) -> GpuModel:
    """Return a fitted GPU model of `gpu_models/*.json`.

    Raises: ValueError: no GPU model has this name; the message lists the names.
    """
    if name not in gpu_model_names():
        raise ValueError(f"no simulated GPU is called {name!r}; there are {', '.join(gpu_model_names())}")
    constants: dict[str, Any] = json.loads((_GPUS / f"{name}.json").read_text())
    for clocks in ("sm_clocks_mhz", "mem_clocks_mhz"):
        constants[clocks] = tuple(constants[clocks])
    return GpuModel(**constants)


def find_gpu_model(gpu_name: str) -> str:
    """Return the name of the GPU model for a GPU's product name; the H200's where the GPU has none."""
    return next((name for name in gpu_model_names() if load_gpu_model(name).name in gpu_name), DEFAULT_GPU)
