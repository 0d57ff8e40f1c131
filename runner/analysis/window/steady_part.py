"""The steady part of a window: without its ramp and its drain.

A `Measurement` enters, a `SteadyPart` leaves. Next: the trial's row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.analysis.energy.trace import EdgeNotCoveredError, TraceGapError, estimate_trace
from runner.analysis.window.token_times import count_tokens
from runner.analysis.window.work import select_sound
from runner.results.measurement import Measurement
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class SteadyPart:
    """The steady columns of `tables.TRIALS`; None where the window has no steady part, or its energy is unknown."""

    steady_duration_s: float | None = None
    steady_energy_j: float | None = None
    steady_num_output_tokens: int | None = None
    """None for log-likelihoods, which generate nothing."""


def find_steady_part(measurement: Measurement) -> SteadyPart:
    """Return the part of a window in which every place of the load is taken, with its energy by the trace.

    Requests that arrive at a rate have no places.
    """
    load = measurement.identity.load
    if not isinstance(load, ClosedLoop):
        return SteadyPart()
    timed = [
        completion
        for completion in select_sound(measurement.completions)
        if completion.queued_ns is not None
        and completion.first_token_ns is not None
        and completion.last_token_ns is not None
    ]
    edges_ns = _find_edges(timed, load)
    if edges_ns is None:
        return SteadyPart()
    start_ns, end_ns = edges_ns
    try:
        energy_j = estimate_trace(measurement.power, start_ns, end_ns, measurement.sensors).energy_j
    except (TraceGapError, EdgeNotCoveredError):
        return SteadyPart()
    generates = measurement.identity.request_kind == "generate"
    return SteadyPart(
        steady_duration_s=(end_ns - start_ns) * 1e-9,
        steady_energy_j=energy_j,
        steady_num_output_tokens=count_tokens(timed, start_ns, end_ns) if generates else None,
    )


def _find_edges(timed: Sequence[Completion], load: ClosedLoop) -> tuple[int, int] | None:
    """Return when the steady part begins and ends, in ns; None for a window that has none.

    It begins when as many requests as the load keeps in flight have their first token. It ends with the first place
    that stays empty.
    """
    num_places = load.concurrency
    if len(timed) < 2 * num_places:
        return None
    by_queue = sorted(timed, key=lambda completion: completion.queued_ns or 0)
    start_ns = max(completion.first_token_ns or 0 for completion in by_queue[:num_places])
    end_ns = sorted(completion.last_token_ns or 0 for completion in timed)[len(timed) - num_places]
    return (start_ns, end_ns) if end_ns > start_ns else None
