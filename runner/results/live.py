"""The live view: snapshots of a run that the aggregator makes and the dashboard draws."""

from dataclasses import dataclass
from typing import Literal

from runner.spec.load import Load

GpuPhase = Literal["starting", "loading", "settling", "warming up", "measuring", "closing", "idle", "lost"]
EventLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of events.jsonl, and of the dashboard's list of events."""

    time_ns: int
    level: EventLevel
    kind: str
    """A stable word for scripts, such as "trial_finished", "engine_loading" or "gpu_lost"."""
    message: str
    trial_id: str | None = None
    gpu_uuid: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuView:
    """One GPU at one instant; None where a value is unknown."""

    gpu_uuid: str
    label: str
    """Short and unique in the run: the GPU's index ("0"), on a cluster after its node ("n2:0")."""
    name: str
    simulated: bool
    phase: GpuPhase = "starting"
    model: str | None = None
    task: str | None = None
    load: Load | None = None
    sm_clock_mhz_requested: int | None = None
    """None at the default clock."""
    sm_clock_mhz: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    power_history_w: tuple[float, ...] = ()
    """Mean power of each of the last 60 seconds at most, oldest first."""
    token_kind: Literal["output", "prompt"] = "output"
    tokens_per_s: float | None = None
    joules_per_token: float | None = None
    num_requests_done: int = 0
    num_trials_done: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepView:
    """The whole sweep at one instant."""

    name: str
    simulated: bool
    run_directory: str
    num_trials: int
    num_done: int = 0
    """Trials that this run or an earlier one finished, failed ones included."""
    num_resumed: int = 0
    """Those of them that were finished before this run began."""
    num_failed: int = 0
    num_with_verdicts: int = 0
    start_ns: int | None = None
    """When this run began, in ns since the epoch. The dashboard shows the times of events relative to it."""
    elapsed_s: float = 0.0
    remaining_s: float | None = None
    energy_j: float = 0.0
    """Sum of energy_j over the trials finished so far."""
    gpus: tuple[GpuView, ...] = ()
    events: tuple[Event, ...] = ()
    """The last ones, oldest first."""
