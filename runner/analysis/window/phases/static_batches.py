"""Prefill and decode by static batches: each batch is cut where its last prompt is done and its first request ends.

A `Measurement` made of batches enters, `Phases` leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.analysis.energy.curve import NO_TRACE, EnergyCurve, energy_curve
from runner.analysis.window.phases.phase_energy import NO_STEPS, Phases, reach_over, share_energy
from runner.analysis.window.work import Work
from runner.results.measurement import Measurement
from runner.spec.trial import MIN_BATCHES

MIN_PHASE_S = 0.5
"""25 samples of a driver that takes one each 20 ms."""
MIN_INNER_SHARE = 0.5
"""The least share of a phase that its trimmed edges may leave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Phase:
    """One phase of one batch."""

    duration_s: float
    energy_j: float
    """Between the trimmed edges. So are the tokens."""
    num_prefill_tokens: float
    num_decode_tokens: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _TokenEnergy:
    """Joules per token of one phase, over the batches."""

    mean_j: float
    low_j: float | None = None
    high_j: float | None = None
    """Ends of the 95 % interval; None for fewer than `MIN_BATCHES` batches."""


def describe_batches(measurement: Measurement, work: Work, energy_j: float, uncertainty_j: float) -> Phases:
    """Return the phases of a window of static batches, or the reason why they are unknown.

    Args:
        energy_j, uncertainty_j: of the window; the uncertainty is 0 where it is unknown.
    """
    if not measurement.steps:
        return Phases(phase_reason=NO_STEPS)
    curve = energy_curve(measurement, energy_j)
    if curve is None:
        return Phases(phase_reason=NO_TRACE)
    min_s = max(MIN_PHASE_S, 2 * curve.reach_s / (1 - MIN_INNER_SHARE))
    batches = [_cut_batch(measurement, edges_ns) for edges_ns in measurement.batch_edges_ns or ()]
    edges_ns = [edges for edges in batches if edges is not None]
    if not edges_ns:
        return Phases(phase_reason="no batch ended without a failed request")
    prefills, decodes = (
        [_read_phase(measurement, curve, edges[place], edges[place + 1]) for edges in edges_ns] for place in (0, 1)
    )
    # Some tokens are decoded beside prompts. To tell them from prefill, the cost of decoding must be known first.
    unseen_share = uncertainty_j / energy_j
    decode = _estimate_decode([phase for phase in decodes if phase.duration_s >= min_s], unseen_share)
    long_prefills = [phase for phase in prefills if phase.duration_s >= min_s]
    prefill = _estimate_prefill(long_prefills, None if decode is None else decode.mean_j, unseen_share)
    reasons = [
        reason
        for name, estimate, phases in (("prefill", prefill, prefills), ("decode", decode, decodes))
        if (reason := _explain_missing(name, estimate, max(phase.duration_s for phase in phases), min_s))
    ]
    if prefill is None and decode is None:
        return Phases(phase_reason="; ".join(reasons))
    return _join_phases(energy_j, work, prefill, decode, "; ".join(reasons) or None)


def _join_phases(
    energy_j: float, work: Work, prefill: _TokenEnergy | None, decode: _TokenEnergy | None, reason: str | None
) -> Phases:
    prefill_j, decode_j = (None if estimate is None else estimate.mean_j for estimate in (prefill, decode))
    shares = share_energy(energy_j, work, joules_per_prefill_token=prefill_j, joules_per_decode_token=decode_j)
    has_interval = any(estimate is not None and estimate.low_j is not None for estimate in (prefill, decode))
    return Phases(
        phase_method="static_batches",
        phase_reason=reason,
        phase_interval="batches" if has_interval else None,
        prefill_energy_j=shares.prefill_j,
        decode_energy_j=shares.decode_j,
        joules_per_prefill_token=prefill_j,
        joules_per_prefill_token_low=prefill.low_j if prefill else None,
        joules_per_prefill_token_high=prefill.high_j if prefill else None,
        joules_per_decode_token=decode_j,
        joules_per_decode_token_low=decode.low_j if decode else None,
        joules_per_decode_token_high=decode.high_j if decode else None,
        phase_residual_fraction=shares.residual_fraction,
    )


def _explain_missing(name: str, estimate: _TokenEnergy | None, longest_s: float, min_s: float) -> str | None:
    """Return why a phase, or its interval, is unknown; None where both are known."""
    if longest_s < min_s:
        return f"no batch's {name} lasts {min_s:.2g} s: the longest {longest_s:.2g} s"
    if estimate is None:
        return "what is decoded beside prompts cannot be told from prefill without decoding alone"
    if estimate.low_j is None:
        return f"an interval for {name} needs {MIN_BATCHES} batches"
    return None


def _estimate_decode(phases: Sequence[_Phase], unseen_share: float) -> _TokenEnergy | None:
    """Return joules per decode token; None without a phase that is long enough."""
    joules = [phase.energy_j / phase.num_decode_tokens for phase in phases]
    return _average(joules, joules, unseen_share)


def _estimate_prefill(phases: Sequence[_Phase], decode_j: float | None, unseen_share: float) -> _TokenEnergy | None:
    """Return joules per prefill token; None where they cannot be told from decoding.

    A token that is decoded beside prompts costs at least as much as a token of a prompt, since it passes the same
    layers. It costs at most `decode_j`, which a token costs that is decoded alone. Prefill lies between these bounds,
    and its value is their middle.
    """
    if decode_j is None and any(phase.num_decode_tokens > 0 for phase in phases):
        return None
    upper = [phase.energy_j / (phase.num_prefill_tokens + phase.num_decode_tokens) for phase in phases]
    lower = [
        (phase.energy_j - phase.num_decode_tokens * (decode_j or 0.0)) / phase.num_prefill_tokens for phase in phases
    ]
    return _average(lower, upper, unseen_share)


def _average(lower: Sequence[float], upper: Sequence[float], unseen_share: float) -> _TokenEnergy | None:
    if not lower:
        return None
    mean_j = float(np.mean(lower) + np.mean(upper)) / 2
    if len(lower) < MIN_BATCHES:
        return _TokenEnergy(mean_j=mean_j)
    low_j, high_j = reach_over(lower, upper, unseen_share * mean_j)
    return _TokenEnergy(mean_j=mean_j, low_j=low_j, high_j=high_j)


def _cut_batch(measurement: Measurement, edges_ns: tuple[int, int]) -> tuple[int, int, int] | None:
    """Return when prefill begins, when it has ended so that decoding is alone, and when the first request ends.

    None for a batch in which a request failed.
    """
    start_ns, end_ns = edges_ns
    batch = [c for c in measurement.completions if c.queued_ns is not None and start_ns <= c.queued_ns < end_ns]
    if not batch or any(completion.error is not None for completion in batch):
        return None
    scheduled_ns, first_ns, last_ns = [], [], []
    for completion in batch:
        if completion.scheduled_ns is None or completion.first_token_ns is None or completion.last_token_ns is None:
            return None
        scheduled_ns.append(completion.scheduled_ns)
        first_ns.append(completion.first_token_ns)
        last_ns.append(completion.last_token_ns)
    return min(scheduled_ns), max(first_ns), min(last_ns)


def _read_phase(measurement: Measurement, curve: EnergyCurve, start_ns: int, end_ns: int) -> _Phase:
    """Return a phase between its trimmed edges.

    A reading stands for some time around its own instant. That much is trimmed off at each end, so that all readings
    that are used lie inside the phase. A step's tokens are spread evenly over the time since the step before it.
    """
    trim_ns = min(round(curve.reach_s * 1e9), (end_ns - start_ns) // 2)
    inner_ns = np.array([start_ns + trim_ns, max(end_ns - trim_ns, start_ns + trim_ns)])
    steps = [step for step in measurement.steps if start_ns < step.time_ns <= end_ns]
    # Relative to the phase: ns since the epoch lose their last digits in a double.
    step_ns = np.array([0, *(step.time_ns - start_ns for step in steps)])
    counts = np.array([(0, 0), *((step.num_prefill_tokens, step.num_decode_tokens) for step in steps)])
    prefill, decode = (float(np.diff(np.interp(inner_ns - start_ns, step_ns, kind))[0]) for kind in counts.cumsum(0).T)
    return _Phase(
        duration_s=(end_ns - start_ns) * 1e-9,
        energy_j=curve.between(int(inner_ns[0]), int(inner_ns[1])),
        num_prefill_tokens=prefill,
        num_decode_tokens=decode,
    )
