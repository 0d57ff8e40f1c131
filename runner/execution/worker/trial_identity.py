"""Who a trial is: as the sweep asks for it, with the operating point in the values of the GPU that runs it."""

from dataclasses import replace

from runner.hardware.gpu import GpuInfo
from runner.hardware.operating_point import resolve_clocks
from runner.results.measurement import Identity
from runner.spec.request import RequestKind
from runner.spec.trial import Trial


def identify(trial: Trial, kind: RequestKind, info: GpuInfo, *, attempt: int = 1) -> Identity:
    """Return a trial's identity on a GPU.

    Args:
        attempt: 2 for its one retry, which is a trial with a row of its own.
    Raises: GpuError, ValueError: the GPU cannot be set to what the trial asks for.
    """
    point = trial.point
    request = resolve_clocks(info, point.sm_clock, point.mem_clock, point.power_limit)
    return replace(
        identify_without_point(trial, kind, attempt=attempt),
        sm_clock_mhz_requested=request.sm_clock_mhz,
        mem_clock_mhz_requested=request.mem_clock_mhz,
        power_limit_w_requested=request.power_limit_w,
    )


def identify_without_point(trial: Trial, kind: RequestKind, *, attempt: int = 1) -> Identity:
    """Return a trial's identity where no GPU can say what its operating point would be."""
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
        attempt=attempt,
    )
