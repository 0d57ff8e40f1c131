"""What verdicts need and no column holds: throttling, foreign processes, and what the engine left behind.

A `Measurement` enters, `Evidence` leaves. Next: `verdicts.py`.
"""

from dataclasses import dataclass

from runner.analysis.energy.trace import readings_in_window
from runner.analysis.window.gpu_state import THERMAL_REASONS, throttled_share
from runner.results.measurement import Measurement
from runner.spec.request import UNFINISHED
from runner.spec.throttle import ThrottleReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was observed of a trial and no column holds."""

    capped_fraction: float | None
    """Share of the window's state readings that show the power cap; None without a reading."""
    thermal_fraction: float | None
    """Share of them that show a thermal reason."""
    power_limit_w_start: float | None
    """The limit in force when the window opened."""
    foreign_process_ids: frozenset[int]
    """Processes on the GPU at either edge that are not our engine's; empty where the driver lists no processes."""
    engine_on_gpu: bool
    """False where a server is known to compute on another GPU, or on none."""
    memory_left_behind: bool
    prefix_cache_reset: bool
    """Whether the engine reset its prefix cache before the window."""
    unfinished: bool = False
    """Whether a request that arrived in the window was still in flight when it was no longer followed."""


def find_evidence(measurement: Measurement) -> Evidence:
    """Return the evidence for a trial's verdicts."""
    readings = readings_in_window(measurement)
    return Evidence(
        capped_fraction=throttled_share(readings, ThrottleReason.POWER_CAP),
        thermal_fraction=throttled_share(readings, THERMAL_REASONS),
        power_limit_w_start=measurement.edge_start.power_limit_w,
        foreign_process_ids=find_foreign_processes(measurement),
        engine_on_gpu=measurement.engine_on_gpu,
        memory_left_behind=measurement.memory_left_behind,
        prefix_cache_reset=measurement.prefix_cache_reset,
        unfinished=any(completion.error == UNFINISHED for completion in measurement.counted),
    )


def find_foreign_processes(measurement: Measurement) -> frozenset[int]:
    """Return the processes on the GPU that are not our engine's; empty where the driver lists no processes."""
    if measurement.engine_process_ids is None:
        return frozenset()
    seen = (edge.process_ids or frozenset() for edge in (measurement.edge_start, measurement.edge_end))
    return frozenset().union(*seen) - measurement.engine_process_ids
