"""Prefill and decode by regression of energy on token counts: a cross-check, refused where it cannot tell them apart.

A `Measurement` and its energy enter; a `PhaseRegression` leaves: two numbers, or the reason why there are none.

Every joule is charged to a token, as in the phases that this checks. A constant for the time that passes would be
collinear with both counts, since a busy engine spends all its time on tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.analysis.energy.curve import NO_TRACE, EnergyCurve, energy_curve
from runner.analysis.window.phases.phase_energy import NO_STEPS
from runner.results.measurement import Measurement

BIN_S = 0.1
"""Five samples of a driver that takes one each 20 ms."""
MAX_BINS = 5000
"""Longer windows have longer bins. That bounds the memory of the bootstrap."""
MIN_BINS = 20
MIN_PREFILL_SHARE = 0.1
MAX_CONDITION_NUMBER = 30.0
"""Of the columns scaled to unit length (Belsley). Above it they are collinear."""
MAX_INTERVAL_SHARE = 0.25
"""Width of the bootstrap's 95 % interval, as a share of the estimate."""
NUM_RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRegression:
    """The regression columns of `tables.TRIALS`: both numbers, or the reason why there are none."""

    regression_joules_per_prefill_token: float | None = None
    regression_joules_per_decode_token: float | None = None
    regression_reason: str | None = None


class _RefusedError(Exception):
    """The two phases cannot be told apart. The message says why."""


def regress_phases(measurement: Measurement, energy_j: float | None) -> PhaseRegression:
    """Fit energy of a bin = a x its prefill tokens + b x its decode tokens.

    Args:
        energy_j: the window's energy as its row states it; None where it is unknown.
    """
    try:
        _require_both(measurement)
        curve = None if energy_j is None else energy_curve(measurement, energy_j)
        if curve is None:
            raise _RefusedError(NO_TRACE)
        prefill_j, decode_j = _fit(*_make_bins(measurement, curve))
    except _RefusedError as refusal:
        return PhaseRegression(regression_reason=str(refusal))
    return PhaseRegression(regression_joules_per_prefill_token=prefill_j, regression_joules_per_decode_token=decode_j)


def _require_both(measurement: Measurement) -> None:
    num_prefill = sum(step.num_prefill_tokens for step in measurement.steps)
    num_decode = sum(step.num_decode_tokens for step in measurement.steps)
    if num_prefill + num_decode == 0:
        raise _RefusedError(NO_STEPS)
    if num_decode == 0:
        raise _RefusedError("nothing was decoded")
    share = num_prefill / (num_prefill + num_decode)
    if share < MIN_PREFILL_SHARE:
        raise _RefusedError(f"prefill is {share:.1%} of the tokens, under {MIN_PREFILL_SHARE:.0%}")


def _fit(design: Floats, energy_j: Floats) -> tuple[float, float]:
    """Return joules per prefill token and per decode token."""
    if len(energy_j) < MIN_BINS:
        raise _RefusedError(f"the window holds {len(energy_j)} bins, fewer than {MIN_BINS}")
    condition = float(np.linalg.cond(design / np.linalg.norm(design, axis=0)))
    if condition > MAX_CONDITION_NUMBER:
        raise _RefusedError(
            f"prefill and decoding go together: condition number {condition:.0f}, over {MAX_CONDITION_NUMBER:g}"
        )
    estimates = np.linalg.lstsq(design, energy_j, rcond=None)[0]
    low, high = np.percentile(_resample(design, energy_j), [2.5, 97.5], axis=0)
    for name, estimate, width in zip(("prefill", "decode"), estimates, high - low, strict=True):
        if width > MAX_INTERVAL_SHARE * estimate:  # also refuses an estimate below 0
            raise _RefusedError(f"the bootstrap interval of {name} spans {width:.2g} J a token around {estimate:.2g}")
    return float(estimates[0]), float(estimates[1])


def _make_bins(measurement: Measurement, curve: EnergyCurve) -> tuple[Floats, Floats]:
    """Return (prefill tokens, decode tokens) [num_bins, 2] and energy [num_bins] of equal pieces of the window.

    A step's tokens are spread evenly over the time since the step before it.
    """
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    length_ns = end_ns - start_ns
    bin_s = max(BIN_S, 2 * curve.reach_s)  # two readings of a slower sensor
    num_bins = min(max(round(length_ns * 1e-9 / bin_s), 1), MAX_BINS)
    offsets_ns = np.linspace(0, length_ns, num_bins + 1).astype(np.int64)
    step_ns = np.array([0, *(step.time_ns - start_ns for step in measurement.steps)])
    counts = [(0, 0), *((step.num_prefill_tokens, step.num_decode_tokens) for step in measurement.steps)]
    tokens = [np.interp(offsets_ns, step_ns, running) for running in np.cumsum(counts, axis=0).T]
    design = np.stack([np.diff(running) for running in tokens], axis=1)
    return design, np.diff(curve.until(start_ns + offsets_ns))


def _resample(design: Floats, energy_j: Floats) -> Floats:
    """Return fits to bins drawn with replacement: [NUM_RESAMPLES, 2], the same for the same window."""
    num_bins = len(energy_j)
    draws = np.random.default_rng(0).multinomial(num_bins, np.full(num_bins, 1 / num_bins), size=NUM_RESAMPLES)
    products = (design[:, :, None] * design[:, None, :]).reshape(num_bins, 4)
    squares = (draws @ products).reshape(-1, 2, 2)
    return np.asarray((np.linalg.pinv(squares) @ (draws @ (design * energy_j[:, None]))[:, :, None])[:, :, 0])
