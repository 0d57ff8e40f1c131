"""How closely two quantities go together: arrays of [num_prompts] enter, coefficients with their intervals leave.

Intervals are percentiles over resamples of the prompts (the bootstrap). A resample is stored as how often each prompt
was drawn. So thousands of resamples take a few matrix products and cumulative sums. Next: `correlation.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import rankdata

Array = NDArray[np.float64]

CONFIDENCE = 0.95
_NUM_AT_ONCE = 500_000
"""Draws that are held in memory together. With what is made of them they take about 4 MB, which fits a CPU's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficient:
    """A correlation with its 95 % interval. The interval is None where resamples often hold one value only."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, of a true correlation of 0, by Student's t; None without a degree of freedom."""


def standardise(values: Array) -> Array:
    """Return values with mean 0 and variance 1; all 0 if the values differ by no more than rounding."""
    centred = values - values.mean()
    spread = float(centred.std())
    return np.asarray(centred / spread if spread > 1e-9 * float(np.abs(values).max()) else np.zeros_like(values))


def remove_controls(values: Array, controls: Array) -> tuple[Array, int]:
    """Return the residuals of a least-squares fit to the controls, and the number of independent controls.

    Args:
        values: [num_prompts] or [num_prompts, num_columns], each with mean 0.
        controls: [num_prompts, num_controls], each with mean 0. They may be multiples of each other.
    """
    fit, _, rank, _ = np.linalg.lstsq(controls, values)
    return values - controls @ fit, int(rank)


def correlate_values(x: Array, y: Array, *, num_fitted: int, num_resamples: int, seed: int) -> Coefficient:
    """Return Pearson's correlation.

    Args:
        x, y: [num_prompts] each.
        num_fitted: terms that were fitted to x and y before, beyond one mean each. Each takes a degree of freedom, so
            the resamples are smaller by that number. Otherwise their interval would be too narrow.
    """
    products = np.stack([x, y, x * x, y * y, x * y])
    resampled = [_correlate_moments(products @ counts / counts.sum(axis=0)) for counts in _resample(
        len(x), len(x) - num_fitted, num_resamples, seed
    )]  # fmt: skip
    return _conclude(_correlate(x, y), np.concatenate(resampled), len(x) - num_fitted)


def correlate_ranks(x: Array, y: Array, *, num_fitted: int, num_resamples: int, seed: int) -> Coefficient:
    """Return Spearman's correlation. Arguments are as in `correlate_values`. Each resample is ranked again."""
    resampled = []
    for counts in _resample(len(x), len(x) - num_fitted, num_resamples, seed):
        ranks_x, ranks_y = _rank_resamples(x, counts), _rank_resamples(y, counts)
        weighted = counts * ranks_x
        moments = np.stack(
            [
                weighted.sum(axis=0),
                (counts * ranks_y).sum(axis=0),
                (weighted * ranks_x).sum(axis=0),
                (counts * ranks_y * ranks_y).sum(axis=0),
                (weighted * ranks_y).sum(axis=0),
            ]
        )
        resampled.append(_correlate_moments(moments / counts.sum(axis=0)))
    value = _correlate(rankdata(x), rankdata(y))
    return _conclude(value, np.concatenate(resampled), len(x) - num_fitted)


def regress(
    predictors: Array, y: Array, *, num_fitted: int, num_resamples: int, seed: int
) -> tuple[Array, Array, Array, Array]:
    """Return the coefficients of a linear regression on all predictors at once, with their intervals.

    Args:
        predictors: [num_prompts, num_predictors], each with mean 0.
        y: [num_prompts] with mean 0.
        num_fitted: as in `correlate_values`.
    Returns: coefficients, their low and high ends, and their variance inflations, [num_predictors] each. A variance
        inflation is how many times larger a coefficient's variance is than without the other predictors.
    """
    table = np.column_stack([predictors, y])
    num_columns = table.shape[1]
    first, second = np.triu_indices(num_columns)
    products = np.concatenate([table.T, (table[:, first] * table[:, second]).T])
    resampled = []
    for counts in _resample(len(y), len(y) - num_fitted, num_resamples, seed):
        moments = (products @ counts / counts.sum(axis=0)).T
        means, squares = moments[:, :num_columns], moments[:, num_columns:]
        covariance = np.empty((len(moments), num_columns, num_columns))
        covariance[:, first, second] = covariance[:, second, first] = squares - means[:, first] * means[:, second]
        resampled.append(_solve(covariance))
    low, high = np.quantile(np.concatenate(resampled), _ends(), axis=0)
    covariance = table.T @ table / len(y)
    of_predictors = covariance[:-1, :-1]
    inflation = np.diagonal(of_predictors) * np.diagonal(np.linalg.pinv(of_predictors, hermitian=True))
    return _solve(covariance[None])[0], low, high, inflation


def _resample(num_prompts: int, num_draws: int, num_resamples: int, seed: int) -> Iterator[Array]:
    """Yield arrays [num_prompts, some resamples] of how often each prompt was drawn. The seed fixes them."""
    counts = _draw(num_prompts, num_draws, num_resamples, seed)
    at_once = max(1, _NUM_AT_ONCE // num_prompts)
    for start in range(0, num_resamples, at_once):
        yield counts[:, start : start + at_once].astype(np.float64)


@lru_cache(maxsize=8)  # most features are known of the same number of prompts
def _draw(num_prompts: int, num_draws: int, num_resamples: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    # A prompt is drawn once in the mean, never 256 times.
    counts = np.empty((num_prompts, num_resamples), dtype=np.uint8)
    for k in range(num_resamples):
        counts[:, k] = np.bincount(rng.integers(0, num_prompts, num_draws), minlength=num_prompts)
    return counts


def _rank_resamples(values: Array, counts: Array) -> Array:
    """Return the mid-rank of each value in each resample, less the middle of all ranks; same shape as `counts`."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    of_group = counts[np.argsort(group, kind="stable")]
    if len(size) < len(values):  # ties
        of_group = np.add.reduceat(of_group, np.cumsum(size) - size, axis=0)
    num_draws = counts[:, :1].sum()
    ranks = np.cumsum(of_group, axis=0)
    ranks -= (of_group - 1) / 2 + (num_draws + 1) / 2
    return np.asarray(ranks[group])


def _correlate(x: Array, y: Array) -> float:
    moments = np.array([x.mean(), y.mean(), (x * x).mean(), (y * y).mean(), (x * y).mean()])
    return float(_correlate_moments(moments[:, None])[0])


def _correlate_moments(moments: Array) -> Array:
    """Return [num_resamples] correlations; NaN without a spread.

    Args:
        moments: [5, num_resamples] means of x, y, their squares and their product.
    """
    mean_x, mean_y, square_x, square_y, product = moments
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    # The variance of a resample of one value is rounding instead of 0.
    is_spread = (variance_x > 1e-12 * square_x) & (variance_y > 1e-12 * square_y)
    variance = np.where(is_spread, variance_x * variance_y, np.nan)
    return np.asarray(np.clip((product - mean_x * mean_y) / np.sqrt(variance), -1.0, 1.0))


def _solve(covariance: Array) -> Array:
    """Return [num, k] coefficients from [num, k + 1, k + 1] covariances, of which the last are with the target.

    The pseudo-inverse gives 0 to a predictor that has a single value in a resample.
    """
    solved: Array = np.linalg.pinv(covariance[:, :-1, :-1], hermitian=True) @ covariance[:, :-1, -1:]
    return solved[:, :, 0]


def _conclude(value: float, resampled: Array, num_left: int) -> Coefficient:
    known = resampled[~np.isnan(resampled)]
    # If one resample in twenty holds a single value, the others do not represent what could have been drawn.
    ends = np.quantile(known, _ends()) if len(known) >= 0.95 * len(resampled) else (None, None)
    degrees = num_left - 2
    with np.errstate(divide="ignore"):
        t = abs(value) * np.sqrt(degrees / np.float64(1 - value**2))
    return Coefficient(
        value=value,
        low=None if ends[0] is None else float(ends[0]),
        high=None if ends[1] is None else float(ends[1]),
        p_value=2 * float(stdtr(degrees, -t)) if degrees > 0 else None,
    )


def _ends() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
