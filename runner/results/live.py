"""What is happening now: immutable snapshots that the aggregator publishes and the dashboard draws."""

from dataclasses import dataclass
from typing import Literal

from runner.spec.load import Load

GpuPhase = Literal["starting", "loading", "settling", "warming up", "measuring", "closing", "idle", "lost"]
EventLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of events.jsonl and of the dashboard's last lines."""

    time_ns: int
    level: EventLevel
    kind: str
    """A stable word for scripts, e.g. "trial_finished", "engine_loading", "clocks_restored"."""
    message: str
    trial_id: str | None = None
    gpu_uuid: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuView:
    """One GPU at one instant; None where nothing is known yet."""

    gpu_uuid: str
    label: str
    """Short and unique on the screen, e.g. "0" or "node2:1"."""
    name: str
    simulated: bool
    phase: GpuPhase = "starting"
    model: str | None = None
    task: str | None = None
    load: Load | None = None
    sm_clock_mhz_requested: int | None = None
    """None: the GPU's default."""
    sm_clock_mhz: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    power_history_w: tuple[float, ...] = ()
    """Mean power of each of the last seconds, oldest first, 60 at most."""
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
    """Finished in this run or an earlier one, failed ones included."""
    num_resumed: int = 0
    """Of those, finished before this run began."""
    num_failed: int = 0
    num_with_verdicts: int = 0
    start_ns: int | None = None
    """When this run began, ns since the epoch: events are shown relative to it."""
    elapsed_s: float = 0.0
    remaining_s: float | None = None
    energy_j: float = 0.0
    """Sum of energy_j over the trials finished so far."""
    gpus: tuple[GpuView, ...] = ()
    events: tuple[Event, ...] = ()
    """The last ones, oldest first."""
