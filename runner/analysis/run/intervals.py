"""Intervals of means over repeats, and of their changes against the default clock.

Trials of one operating point and of its block's default clock enter, 95 % half-widths leave. Next: summary.

All numbers are natural logarithms, since the noise of joules and seconds is relative, and so that no bound is negative.
docs/measurement.md, "Repeats and intervals", gives the reasons.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Array = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_REPEATS = 3
"""From this number on, an operating point's own repeats show its spread. Two repeats show it to within a factor of 13
(Student's t, one degree of freedom). Then the default clock's trials, of which a block has more, show it better."""
GPU_SPREAD = 0.05
"""95 % half-width of the logarithm of the ratio between two GPUs of one kind. They differ by about 5 % in the joules
that they report, and the difference is constant (arXiv 2312.02741)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """The repeats of one operating point in one block, or some of them."""

    time_s: Array
    """[num_trials] the middle of each window, from any common origin; NaN where unknown."""
    logs: Array
    """[num_trials, num_metrics] natural logarithms of the metrics; NaN where unknown."""
    energy_uncertainty: Array
    """[num_trials] 95 % half-width of each trial's energy as a share of it; NaN where unknown."""
    gpu: NDArray[np.int64]
    """[num_trials] a number for each GPU."""

    def take(self, chosen: NDArray[Any]) -> "Repeats":
        """Return some of the trials, by mask or by index."""
        return Repeats(
            time_s=self.time_s[chosen],
            logs=self.logs[chosen],
            energy_uncertainty=self.energy_uncertainty[chosen],
            gpu=self.gpu[chosen],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """How an operating point differs from its block's default clock."""

    log_ratio: Array
    """[num_metrics] mean over the pairs; NaN where there is no pair."""
    half_width: Array
    """[num_metrics] of the 95 % interval around the mean; NaN where nothing shows the spread."""
    half_width_if_chosen: Array
    """[num_metrics] the same for an operating point that was chosen by this metric. The interval is so wide that in 95
    of 100 blocks the true values of all compared operating points lie inside their intervals at once (Bonferroni)."""
    on_same_board: bool
    """Whether every trial was compared with default-clock trials of its own GPU."""


def level_half_width(trials: Repeats, default: Repeats, is_energy: NDArray[np.bool_]) -> Array:
    """Return the half-width of the 95 % interval of a mean over repeats, of the logarithm.

    Args:
        trials: the operating point's repeats.
        default: the default-clock trials of its block. Their spread counts if there are fewer than `MIN_REPEATS`
            repeats.
        is_energy: [num_metrics] which metrics rest on the power sensor.
    Returns: [num_metrics]; NaN where nothing shows the spread.
    """
    num_known = (~np.isnan(trials.logs)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a metric that no trial has
        half_width = np.where(num_known >= MIN_REPEATS, _spread(trials), _spread(default)) / np.sqrt(num_known)
    half_width[num_known == 0] = np.nan
    gpu_spread = GPU_SPREAD if len(np.unique(trials.gpu)) > 1 else 0.0
    return _widen(half_width, is_energy, _mean_known(trials.energy_uncertainty), gpu_spread)


def compare_with_default(
    trials: Repeats, default: Repeats, is_energy: NDArray[np.bool_], *, num_compared: int = 1
) -> Change:
    """Compare each repeat of an operating point with the default clock at its own time and on its own GPU.

    The default clock at a time is interpolated between the trials before and after it. Before the first and after the
    last one, the nearest counts. So a drift that is linear from one default-clock trial to the next cancels. Where
    times are unknown, as in published tables, the mean of all default-clock trials counts.

    Args:
        trials: the operating point's repeats, one at least.
        default: the default-clock trials of the block, one at least.
        is_energy: [num_metrics] which metrics rest on the power sensor.
        num_compared: operating points of the block from which one is chosen.
    """
    weights, on_same_board = _weigh(trials, default)
    logs = np.where(weights[:, :, None] > 0, default.logs, 0.0)
    ratios = trials.logs - (weights[:, :, None] * logs).sum(axis=1)
    is_known = ~np.isnan(ratios)
    num_pairs = is_known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(is_known, ratios, 0.0).sum(axis=0) / num_pairs
        # Pairs that share a default-clock trial share its noise. So the layout alone gives, in units of one trial's
        # variance, the variance of the pairs' mean, and the variance that their scatter about it shows.
        of_mean = 1 / num_pairs + ((weights.T @ is_known / num_pairs) ** 2).sum(axis=0)
        of_pairs = (is_known * (1 + (weights**2).sum(axis=1))[:, None]).sum(axis=0)
        of_scatter = (of_pairs - num_pairs * of_mean) / (num_pairs - 1)
        scatter = np.where(is_known, (ratios - mean) ** 2, 0.0).sum(axis=0) / (num_pairs - 1)
        shows_spread = num_pairs >= MIN_REPEATS
        of_default, default_degrees = _deviation(default)
        deviation = np.where(shows_spread, np.sqrt(scatter / of_scatter), of_default) * np.sqrt(of_mean)
        degrees = np.where(shows_spread, num_pairs - 1, default_degrees)
    uncertainty = np.hypot(_mean_known(trials.energy_uncertainty), _mean_known(default.energy_uncertainty))
    unseen = (uncertainty, 0.0 if on_same_board else GPU_SPREAD)
    confidence = 1 - (1 - CONFIDENCE) / num_compared
    rarer = float(ndtri((1 + confidence) / 2) / ndtri((1 + CONFIDENCE) / 2))
    return Change(
        log_ratio=mean,
        half_width=_widen(_student(degrees) * deviation, is_energy, *unseen),
        half_width_if_chosen=_widen(
            _student(degrees, confidence) * deviation, is_energy, *(rarer * half_width for half_width in unseen)
        ),
        on_same_board=on_same_board,
    )


def _weigh(trials: Repeats, default: Repeats) -> tuple[Array, bool]:
    """Return the weight of each default-clock trial for each trial: [num_trials, num_default], rows sum to 1.

    Also returns whether every trial is compared with default-clock trials of its own GPU.
    """
    weights = np.zeros((len(trials.time_s), len(default.time_s)))
    on_same_board = True
    for gpu in np.unique(trials.gpu):
        chosen = np.flatnonzero(trials.gpu == gpu)
        known = np.flatnonzero(default.gpu == gpu)
        if len(known) == 0:
            on_same_board = False
            known = np.arange(len(default.gpu))
        if np.isnan(trials.time_s[chosen]).any() or np.isnan(default.time_s[known]).any():
            weights[np.ix_(chosen, known)] = 1 / len(known)
            continue
        known = known[np.argsort(default.time_s[known])]
        place = np.searchsorted(default.time_s[known], trials.time_s[chosen])
        before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
        start_s, end_s = default.time_s[before], default.time_s[after]
        apart = end_s > start_s
        share_after = np.where(apart, (trials.time_s[chosen] - start_s) / np.where(apart, end_s - start_s, 1.0), 1.0)
        weights[chosen, before] = 1 - share_after
        weights[chosen, after] += share_after
    return weights, on_same_board


def _spread(trials: Repeats) -> Array:
    """Return the 95 % half-width of a single trial, [num_metrics]."""
    deviation, degrees = _deviation(trials)
    return _student(degrees) * deviation


def _deviation(trials: Repeats) -> tuple[Array, Array]:
    """Return single trials' standard deviation about their GPU's mean, and its degrees of freedom: [num_metrics]."""
    squares, degrees = np.zeros((2, trials.logs.shape[1]))
    for gpu in np.unique(trials.gpu):
        logs = trials.logs[trials.gpu == gpu]
        is_known = ~np.isnan(logs)
        num_known = is_known.sum(axis=0)
        mean = np.where(is_known, logs, 0.0).sum(axis=0) / np.maximum(num_known, 1)
        squares += np.where(is_known, (logs - mean) ** 2, 0.0).sum(axis=0)
        degrees += np.maximum(num_known - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(squares / degrees), degrees


def _student(degrees: NDArray[Any], confidence: float = CONFIDENCE) -> Array:
    """Return how many standard errors an interval reaches to each side; NaN without a degree of freedom."""
    return np.asarray(stdtrit(np.maximum(degrees, 0), (1 + confidence) / 2))


def _widen(half_width: Array, is_energy: NDArray[np.bool_], *others: float) -> Array:
    """Add what repeats do not show to the half-widths of energies, in quadrature."""
    return np.where(is_energy, np.sqrt(half_width**2 + sum(other**2 for other in others)), half_width)


def _mean_known(energy_uncertainty: Array) -> float:
    """Return the mean uncertainty. More trials do not make it smaller: a sensor may miss the same part every time."""
    known = energy_uncertainty[~np.isnan(energy_uncertainty)]
    return float(known.mean()) if len(known) else 0.0
