"""How a run ended: what the driver returns, and the command line says."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """How a run ended."""

    num_ok: int
    num_in_sweep: int
    num_failed: int = 0
    num_left: int = 0
    """Trials that this run set out to do and that have no row; those beyond --limit are not among them."""
    interrupted: bool = False
    not_restored: tuple[str, ...] = ()
    """Labels of the GPUs that an interrupted run left locked."""
    was_finished: bool = False
    """Every trial was finished before, so that nothing was started."""
