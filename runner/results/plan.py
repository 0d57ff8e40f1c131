"""A sweep before it runs: the records that `execution/preflight/plan.py` makes and `display/plan.py` shows."""

from dataclasses import asdict, dataclass
from typing import Any

from runner.spec.load import Load
from runner.spec.operating_point import OperatingPoint


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """One trial, as far as it is known before it runs."""

    trial_id: str
    block_id: str
    model: str
    task: str
    load: Load
    repeat: int
    is_sentinel: bool
    operating_point: OperatingPoint
    """What the requested operating point becomes on this GPU."""
    problem: str | None
    """Why this GPU cannot be set so, and the trial would fail; None if it can."""
    estimated_duration_s: float
    estimated_energy_j: float

    def to_json(self) -> dict[str, Any]:
        """Return the trial as `sweep plan --json` prints it: load and operating point are keys of their own."""
        flat = {"load": self.load.columns(), "operating_point": asdict(self.operating_point)}
        return {
            name: value
            for field, held in asdict(self).items()
            for name, value in flat.get(field, {field: held}).items()
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A sweep before it runs."""

    name: str
    gpu_names: tuple[str, ...]
    simulated: bool
    read_only: bool
    trials: tuple[PlannedTrial, ...]
    num_finished: int
    """Those of the trials that the run directory holds already."""
    estimated_duration_s: float
    """Of the trials that are left, on all GPUs together, with loading."""
    estimated_energy_j: float
    """Of the trials that are left."""

    def to_json(self) -> dict[str, Any]:
        """Return what `sweep plan --json` prints."""
        return asdict(self) | {"trials": [trial.to_json() for trial in self.trials]}
