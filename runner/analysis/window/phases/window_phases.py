"""Prefill and decode: what a window says of each by itself.

A `Measurement`, its work and its energy enter; `Phases` leave. Two kinds of window tell the phases apart: one made of
static batches, and one that holds a single phase. For every other window `phase_reason` says why not. For some of them
`run/phase_lengths.py` finds the phases by several trials (docs/measurement.md, "Prefill and decode").
"""

from runner.analysis.energy.account import WindowEnergy
from runner.analysis.window.phases.phase_energy import Phases
from runner.analysis.window.phases.static_batches import describe_batches
from runner.analysis.window.work import Work
from runner.results.measurement import Measurement

MIXED = 'prefill and decoding overlap in this window: ask for phases = "static_batches" or "output_lengths"'


def describe_phases(measurement: Measurement, work: Work, energy: WindowEnergy) -> Phases:
    """Return the phases of a window, or the reason why they are unknown."""
    if energy.energy_j is None:
        return Phases(phase_reason="the energy of the window is unknown")
    if work.num_decode_tokens <= 0:
        return _describe_prefill_alone(work, energy.energy_j, energy.energy_uncertainty_j)
    if measurement.identity.phase_role is not None:
        return Phases(phase_reason="measured for the phases of the full-length trial beside it")
    if measurement.batch_edges_ns is None:
        return Phases(phase_reason=MIXED)
    return describe_batches(measurement, work, energy.energy_j, energy.energy_uncertainty_j or 0.0)


def _describe_prefill_alone(work: Work, energy_j: float, uncertainty_j: float | None) -> Phases:
    """Nothing is generated beyond the token that prefill makes, so that the whole energy is prefill's."""
    num_tokens = work.num_prefill_tokens
    if num_tokens == 0:
        return Phases(phase_reason="no prompt token was computed")
    return Phases(
        phase_method="all_prefill",
        phase_reason="nothing was decoded",
        phase_interval=None if uncertainty_j is None else "sensor",
        prefill_energy_j=energy_j,
        joules_per_prefill_token=energy_j / num_tokens,
        joules_per_prefill_token_low=None if uncertainty_j is None else (energy_j - uncertainty_j) / num_tokens,
        joules_per_prefill_token_high=None if uncertainty_j is None else (energy_j + uncertainty_j) / num_tokens,
    )
