"""A sweep before it runs: the records that `execution.plan` makes and `display.plan` shows."""

from dataclasses import asdict, dataclass
from typing import Any

from runner.spec.load import Load


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """One trial, as far as it can be known before it runs."""

    trial_id: str
    block_id: str
    model: str
    task: str
    load: Load
    repeat: int
    is_sentinel: bool
    sm_clock_mhz: int | None
    """What the request becomes on this GPU; None: its default."""
    mem_clock_mhz: int | None
    power_limit_w: float | None
    problem: str | None
    """Why this GPU cannot be set so; the trial would fail."""
    estimated_duration_s: float
    estimated_energy_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A sweep before it runs."""

    name: str
    gpu_names: tuple[str, ...]
    simulated: bool
    read_only: bool
    trials: tuple[PlannedTrial, ...]
    num_finished: int
    """Trials of these that the run directory holds already."""
    estimated_duration_s: float
    """For what is left, on all GPUs together, loading included."""
    estimated_energy_j: float
    """For what is left."""

    def to_json(self) -> dict[str, Any]:
        """Return what `sweep plan --json` prints."""
        trials = [asdict(trial) | trial.load.columns() for trial in self.trials]
        return asdict(self) | {"trials": [{k: v for k, v in trial.items() if k != "load"} for trial in trials]}
