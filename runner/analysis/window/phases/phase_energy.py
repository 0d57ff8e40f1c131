"""The energy of prefill and of decoding: the columns of a trial's row, and what all methods of finding it share.

Joules per token of each phase enter; the energy of both phases, and the rest that they do not explain, leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from runner.analysis.window.work import Work

PhaseMethod = Literal["all_prefill", "static_batches", "output_lengths"]
IntervalKind = Literal["batches", "repeats", "sensor"]
"""What the intervals of a trial's phases are over."""

CONFIDENCE = 0.95
NO_STEPS = "this version of the engine does not tell its steps"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """The phase columns of `tables.TRIALS`. Where one is None, `phase_reason` says why."""

    phase_method: PhaseMethod | None = None
    phase_reason: str | None = None
    phase_interval: IntervalKind | None = None
    prefill_energy_j: float | None = None
    decode_energy_j: float | None = None
    joules_per_prefill_token: float | None = None
    joules_per_prefill_token_low: float | None = None
    joules_per_prefill_token_high: float | None = None
    joules_per_decode_token: float | None = None
    joules_per_decode_token_low: float | None = None
    joules_per_decode_token_high: float | None = None
    phase_residual_fraction: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseShares:
    """A window's energy by phase, in J."""

    prefill_j: float | None
    decode_j: float | None
    residual_fraction: float | None
    """Share of the window's energy that the two phases do not explain; None where one of them is unknown."""


def share_energy(
    energy_j: float, work: Work, *, joules_per_prefill_token: float | None, joules_per_decode_token: float | None
) -> PhaseShares:
    """Return what a window's phases take at so many joules per token.

    Args:
        energy_j: of the window.
    """
    prefill_j = None if joules_per_prefill_token is None else joules_per_prefill_token * work.num_prefill_tokens
    decode_j = None if joules_per_decode_token is None else joules_per_decode_token * work.num_decode_tokens
    residual = None if prefill_j is None or decode_j is None else 1 - (prefill_j + decode_j) / energy_j
    return PhaseShares(prefill_j=prefill_j, decode_j=decode_j, residual_fraction=residual)


def reach_over(least: Sequence[float], most: Sequence[float], unseen: float) -> tuple[float, float]:
    """Return a 95 % interval from the mean of one list to the mean of the other.

    Each end is widened by the scatter of its list (Student's t; 0 for a list of one value) and, in quadrature, by
    `unseen`: what the sensor may miss every time.
    """
    return (
        float(np.mean(least)) - hypot(_half_width(least), unseen),
        float(np.mean(most)) + hypot(_half_width(most), unseen),
    )


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)) * stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
