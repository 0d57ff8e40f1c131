"""The identity of a trial: what the sweep asks for, with the operating point in the values of the GPU that runs it."""

from dataclasses import replace

from runner.hardware.gpu import GpuInfo
from runner.hardware.operating_point import resolve_operating_point
from runner.results.measurement import Identity
from runner.spec.request import RequestKind
from runner.spec.trial import Trial


def identify(trial: Trial, kind: RequestKind, info: GpuInfo, *, attempt: int = 1) -> Identity:
    """Return a trial's identity on a GPU.

    Args:
        attempt: 2 where the trial is measured once more. Each attempt has a row of its own.
    Raises: GpuError, ValueError: the GPU cannot be set to what the trial asks for.
    """
    operating_point = resolve_operating_point(info, trial.requested_point)
    return replace(identify_without_point(trial, kind, attempt=attempt), operating_point=operating_point)


def identify_without_point(trial: Trial, kind: RequestKind, *, attempt: int = 1) -> Identity:
    """Return a trial's identity without its operating point, where no GPU resolves it."""
    return Identity(
        trial_id=trial.trial_id,
        block_id=trial.block_id,
        model=trial.model.label,
        task=trial.task.display_name,
        request_kind=kind,
        load=trial.load,
        repeat=trial.repeat,
        is_sentinel=trial.is_sentinel,
        phase_role=trial.phase_role,
        slo=trial.slo,
        attempt=attempt,
    )
