"""What was observed in one trial, before anybody says what it means: the worker hands it to the aggregator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from runner.physics.shape import ModelShape
from runner.results.sensors import SensorFindings
from runner.spec.load import Load
from runner.spec.request import Completion, PhaseRole, RequestKind, Step
from runner.spec.trial import make_row_id


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterTick:
    """The instant at which the GPU's energy counter changed, and what it then read."""

    time_ns: int
    energy_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeReading:
    """What is read of the GPU at an edge of the window and in no trace; None where the GPU does not say."""

    power_limit_w: float | None = None
    throttled_power_s: float | None = None
    """Since the driver loaded, as the next two."""
    throttled_thermal_s: float | None = None
    throttled_other_s: float | None = None
    process_ids: frozenset[int] | None = None
    """The processes on the GPU, as the driver's own PID namespace counts them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where trials ran, and with what: the same for every trial of a worker."""

    gpu_uuids: tuple[str, ...]
    gpu_name: str
    host: str
    fingerprint: str
    """Hash of GPU, driver and versions; rows with different fingerprints are not mixed."""
    simulated: bool
    simulated_time_scale: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which trial it was, with the operating point in the GPU's own values (None: its default)."""

    trial_id: str
    block_id: str
    model: str
    task: str
    request_kind: RequestKind
    load: Load
    repeat: int
    is_sentinel: bool
    phase_role: PhaseRole | None = None
    attempt: int = 1
    """2: measured once more, after a verdict."""
    sm_clock_mhz_requested: int | None = None
    mem_clock_mhz_requested: int | None = None
    power_limit_w_requested: float | None = None

    @property
    def row_id(self) -> str:
        """The id of its row in `tables.TRIALS`, and of its files: one for each attempt."""
        return make_row_id(self.trial_id, self.attempt)


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
    """The last tick before the window; None where the GPU has no counter."""
    counter_end: CounterTick | None
    """The first tick after the window."""
    idle_power_w: float | None
    """Mean power with the engine loaded and nothing to do, at this operating point."""
    edge_start: EdgeReading = EdgeReading()
    edge_end: EdgeReading = EdgeReading()
    settle_s: float | None = None
    """From the change of clocks until readings under load showed it; None: they never did, or none was asked for."""
    persistence_mode: bool | None = None
    engine_process_ids: frozenset[int] | None = None
    """Our own processes on the GPU; None where the driver does not say."""
    memory_left_behind: bool = False
    """Whether the engine before this one had ended and its memory was still held."""
    prefix_cache_reset: bool = True
    """Whether the engine forgot its prefix cache before the window."""
    pace_lost_s: float | None = None
    """Seconds by which a real engine outlasted the simulated GPU; None where nothing is paced."""
    sensors: SensorFindings | None = None
    """What a probe found of the GPU's sensors; None: the trace is of the driver's sample buffer."""
    shape: ModelShape | None = None
    """Whose work it was: the model's, or its twin's on a simulated GPU; None where it could not be read."""
    batch_edges_ns: tuple[tuple[int, int], ...] | None = None
    """Start and end of each static batch that the window is made of; None where requests followed one another."""
    prompt_token_entropy_bits: Mapping[str, float | None] = field(default_factory=dict)
    """By request_id: a feature of the prompt in the model's own tokens."""
    prompt_surprise_nats: Mapping[str, float | None] = field(default_factory=dict)
    """The same way: mean negative log-likelihood of a prompt's tokens; empty where nobody asked for it."""
