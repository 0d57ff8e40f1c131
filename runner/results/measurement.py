"""What was observed in one trial. The worker hands it to the aggregator, which analyses it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import polars as pl

from runner.physics.shape import ModelShape
from runner.results.sensors import SensorFindings
from runner.spec.activity import UnitActivity
from runner.spec.load import Load
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Completion, PhaseRole, RequestKind, Step
from runner.spec.serving.slo import Slo
from runner.spec.trial import make_row_id


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterTick:
    """The instant at which the GPU's energy counter changed, and what it then read."""

    time_ns: int
    energy_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeReading:
    """What is read of the GPU at an edge of the window and is in no trace; None where the GPU does not report it."""

    power_limit_w: float | None = None
    throttled_power_s: float | None = None
    """Since the NVIDIA driver loaded. So are the next two."""
    throttled_thermal_s: float | None = None
    throttled_other_s: float | None = None
    process_ids: frozenset[int] | None = None
    """The processes on the GPU, with their ids in the NVIDIA driver's own PID namespace."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where trials ran, and with what. It is the same for every trial of a worker."""

    gpu_uuids: tuple[str, ...]
    gpu_name: str
    host: str
    fingerprint: str
    """Hash of the GPU's name, the NVIDIA driver and versions. One run directory holds one fingerprint a kind of GPU."""
    simulated: bool
    simulated_time_scale: float | None = None

    def columns(self) -> dict[str, Any]:
        """Return the placement's columns of `tables.TRIALS`, by name."""
        return _list_fields(self) | {"gpu_uuids": list(self.gpu_uuids)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which trial it was."""

    trial_id: str
    block_id: str
    model: str
    task: str
    request_kind: RequestKind
    load: Load
    repeat: int
    is_sentinel: bool
    operating_point: OperatingPoint = field(default_factory=OperatingPoint)
    phase_role: PhaseRole | None = None
    slo: Slo | None = None
    """What each request must keep to be a good one; None where nothing is promised."""
    attempt: int = 1
    """2 for a trial that is measured again because of a verdict."""

    @property
    def row_id(self) -> str:
        """The id of its row in `tables.TRIALS`, and of its files: one for each attempt."""
        return make_row_id(self.trial_id, self.attempt)

    def columns(self) -> dict[str, Any]:
        """Return the identity's columns of `tables.TRIALS`, by name."""
        columns = _list_fields(self) | {"trial_id": self.row_id}
        del columns["load"], columns["operating_point"], columns["slo"]
        columns |= {
            "slo_ttft_s": self.slo and self.slo.ttft,
            "slo_tpot_s": self.slo and self.slo.tpot,
            "slo_e2el_s": self.slo and self.slo.e2el,
            "slo_required_fraction": self.slo and self.slo.share,
        }
        return columns | self.load.columns() | self.operating_point.columns()


@dataclass(frozen=True, kw_only=True, slots=True)
class HostEnergy:
    """What the whole host used between two readings around the window: CPU packages and their memory."""

    energy_j: float | None = None
    elapsed_s: float | None = None
    """Between the two readings."""
    idle_power_w: float | None = None
    """The whole host's, measured when the GPU's idle power was."""
    num_workers: int = 1
    """The workers of this run on this host. They share its energy."""
    zones: tuple[str, ...] = ()
    """What is counted, e.g. package-0, dram."""
    reason: str | None = None
    """Why the energy is None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterReadings:
    """What is read once at each edge of the window beside the energy counter, and why something was not read."""

    activity: UnitActivity = field(default_factory=UnitActivity)
    host: HostEnergy = HostEnergy()
    memory_power_reason: str | None = None
    """Why the trace has no power of the memory."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One trial's window, with everything that was observed in it and around it. Times are ns since the epoch.

    In an open loop requests straddle the window's edges. `completions` holds all that were in flight in it. Those that
    arrived in it are counted (`counted`).
    """

    identity: Identity
    placement: Placement
    start_ns: int
    end_ns: int
    completions: list[Completion]
    """Of the requests that were in flight in the window; of an open loop, also of those before and after an edge."""
    steps: list[Step]
    num_requests_left_out: int | None = None
    """Requests of the last round that did not start before the window's end; None where it holds no rounds."""
    power: pl.DataFrame
    """[num_samples] rows of `tables.POWER`, reaching over both edges of the window."""
    counter_start: CounterTick | None
    """The last tick before the window; None where the GPU has no counter."""
    counter_end: CounterTick | None
    """The first tick after the window."""
    idle_power_w: float | None
    """Mean power with the engine loaded and no request in flight, at this operating point."""
    edge_start: EdgeReading = EdgeReading()
    edge_end: EdgeReading = EdgeReading()
    meters: MeterReadings = MeterReadings()
    settle_s: float | None = None
    """From setting the clocks until readings under load showed them; None if they never did, or none was set."""
    persistence_mode: bool | None = None
    engine_process_ids: frozenset[int] | None = None
    """The engine's own processes on the GPU; None where the NVIDIA driver does not list processes."""
    engine_on_gpu: bool = True
    """False where a server is known to compute on another GPU, or on none."""
    memory_left_behind: bool = False
    """Whether GPU memory of the engine before this one was still held after that engine had ended."""
    prefix_cache_reset: bool = True
    """Whether the engine reset its prefix cache before the window."""
    pace_lost_s: float | None = None
    """Seconds by which a real engine outlasted the simulated GPU; None where nothing is paced."""
    sensors: SensorFindings | None = None
    """What a probe found of the GPU's sensors; None if the trace comes from the NVIDIA driver's sample buffer."""
    shape: ModelShape | None = None
    """Sizes of the model, or the modelled shape on a simulated GPU; None where they could not be read."""
    batch_edges_ns: tuple[tuple[int, int], ...] | None = None
    """Start and end of each static batch that the window is made of; None where requests followed one another."""
    capacity_per_s: float | None = None
    """The highest request rate that keeps the SLO at this operating point; None where it was not sought, or is none."""
    prompt_token_entropy_bits: Mapping[str, float | None] = field(default_factory=dict)
    """By request_id. A feature of the prompt in the model's own tokens."""
    prompt_surprise_nats: Mapping[str, float | None] = field(default_factory=dict)
    """By request_id. Mean negative log-likelihood of a prompt's tokens; empty unless the task asks for it."""

    @property
    def counted(self) -> list[Completion]:
        """The completions that the trial's row counts: those of the requests that arrived in the window."""
        return [completion for completion in self.completions if completion.in_window]

    @property
    def first_round(self) -> list[Completion]:
        """The first completion of each request that is counted, in order."""
        first: dict[str, Completion] = {}
        for completion in sorted(self.counted, key=lambda completion: completion.round):
            first.setdefault(completion.request_id, completion)
        return [completion for completion in self.counted if first[completion.request_id] is completion]


def _list_fields(record: Placement | Identity) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in fields(record)}
