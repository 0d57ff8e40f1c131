"""What was observed in one trial, before anybody says what it means: the worker hands it to the aggregator."""

from dataclasses import dataclass

import polars as pl

from runner.spec.request import Completion, RequestKind, Step


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterTick:
    """The instant at which the board's energy counter changed, and what it then read."""

    time_ns: int
    energy_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where trials ran, and with what: the same for every trial of a worker."""

    gpu_uuids: tuple[str, ...]
    gpu_name: str
    host: str
    fingerprint: str
    """Hash of board, driver and versions; rows with different fingerprints are not mixed."""
    simulated: bool
    simulated_time_scale: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which trial it was, with the operating point in the board's own values (None: its default)."""

    trial_id: str
    block_id: str
    model: str
    task: str
    request_kind: RequestKind
    concurrency: int
    repeat: int
    is_sentinel: bool
    sm_clock_mhz_requested: int | None = None
    mem_clock_mhz_requested: int | None = None
    power_limit_w_requested: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One trial's window with everything seen in and around it. Times are ns since the epoch."""

    identity: Identity
    placement: Placement
    start_ns: int
    end_ns: int
    completions: list[Completion]
    steps: list[Step]
    power: pl.DataFrame
    """[num_samples] rows of `tables.POWER`, reaching over both edges of the window."""
    counter_start: CounterTick | None
    """The last tick before the window; None where the board has no counter."""
    counter_end: CounterTick | None
    """The first tick after the window."""
    idle_power_w: float | None
    """Mean power with the engine loaded and nothing to do, before the block."""
    pace_lost_s: float | None = None
    """Seconds by which a real engine outlasted the simulated board; None where nothing is paced."""
