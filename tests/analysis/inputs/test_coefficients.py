import numpy as np
import pytest
from scipy import stats

from runner.analysis.inputs.coefficients import (
    correlate_ranks,
    correlate_values,
    regress,
    remove_controls,
    standardise,
)

RESAMPLING = {"num_resamples": 500, "seed": 0}


def pair(rho: float, num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two normal quantities with this correlation."""
    x, noise = np.random.default_rng(seed).normal(size=(2, num))
    return standardise(x), standardise(rho * x + np.sqrt(1 - rho**2) * noise)


def test_coefficients_and_p_values_are_scipys():
    x, y = pair(0.3, 60, seed=1)
    rounded = np.round(2 * x)  # with ties
    pearson = correlate_values(x, y, num_fitted=0, **RESAMPLING)
    spearman = correlate_ranks(rounded, y, num_fitted=0, **RESAMPLING)
    assert (pearson.value, pearson.p_value) == pytest.approx(tuple(stats.pearsonr(x, y)))
    assert (spearman.value, spearman.p_value) == pytest.approx(tuple(stats.spearmanr(rounded, y)))


@pytest.mark.parametrize(
    ("ours", "scipys"),
    [(correlate_values, stats.pearsonr), (correlate_ranks, stats.spearmanr)],
    ids=["pearson", "spearman"],
)
def test_intervals_are_scipys_percentile_bootstrap(ours, scipys):
    x, y = pair(0.6, 80, seed=2)
    x = np.round(2 * x)
    found = ours(x, y, num_fitted=0, num_resamples=3000, seed=0)
    expected = stats.bootstrap(
        (x, y),
        lambda a, b: scipys(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    # 1000 resamples place a 2.5 % quantile within 0.01 (standard error) where the coefficient's own is 0.08
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)


def test_intervals_cover_the_planted_correlation():
    covered = 0
    for seed in range(200):
        found = correlate_values(*pair(0.5, 60, seed), num_fitted=0, num_resamples=400, seed=0)
        covered += found.low <= 0.5 <= found.high
    # Percentile intervals of 60 prompts cover 93 % or so; 0.93 x 200 less four standard deviations is 172.
    assert covered >= 172


def test_what_was_fitted_before_widens_the_interval():
    # 10 controls that have nothing to do with either: each takes a degree of freedom, as if there were fewer prompts.
    covered, naive = 0, 0
    for seed in range(600):
        x, y = pair(0.0, 24, seed)
        controls = np.random.default_rng(1000 + seed).normal(size=(24, 10))
        controls -= controls.mean(axis=0)
        (rest_x, num), (rest_y, _) = remove_controls(x, controls), remove_controls(y, controls)
        counted = correlate_values(rest_x, rest_y, num_fitted=num, num_resamples=300, seed=0)
        ignored = correlate_values(rest_x, rest_y, num_fitted=0, num_resamples=300, seed=0)
        covered += counted.low <= 0 <= counted.high
        naive += ignored.low <= 0 <= ignored.high
    # Of so few prompts 91 % where 95 are promised, and 80 % if the controls are ignored; bounds three standard
    # deviations (1.2 and 1.6 %) off.
    assert naive / 600 < 0.85
    assert covered / 600 > 0.875


def test_p_values_of_nothing_are_uniform():
    p_values = [
        correlate_values(*pair(0.0, 20, seed), num_fitted=0, num_resamples=1, seed=0).p_value for seed in range(400)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_the_same_seed_gives_the_same_interval():
    x, y = pair(0.5, 40, seed=3)
    once, again = (correlate_ranks(x, y, num_fitted=0, num_resamples=50, seed=7) for _ in range(2))
    other = correlate_ranks(x, y, num_fitted=0, num_resamples=50, seed=8)
    assert once == again
    assert (once.low, once.high) != (other.low, other.high)


def test_a_perfect_correlation_is_certain():
    x, _ = pair(0.0, 20, seed=4)
    found = correlate_values(x, -x, num_fitted=0, **RESAMPLING)
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))
    assert found.p_value == pytest.approx(0, abs=1e-12)


def test_no_interval_where_resamples_often_hold_one_value():
    x = standardise(np.array([1.0] + [0.0] * 19))  # 36 % of the resamples lack the one
    _, y = pair(0.0, 20, seed=5)
    found = correlate_values(x, y, num_fitted=0, **RESAMPLING)
    assert found.low is None
    assert found.high is None


def test_no_p_value_without_a_degree_of_freedom():
    x, y = pair(0.0, 12, seed=6)
    assert correlate_values(x, y, num_fitted=10, **RESAMPLING).p_value is None


def test_standardising_one_value_leaves_zeros():
    assert standardise(np.full(7, 0.1) + np.array([1e-17] * 3 + [0.0] * 4)).tolist() == [0] * 7
    assert standardise(np.array([1.0, 3.0])).tolist() == [-1, 1]


def test_controls_are_removed_whatever_follows_among_them():
    rng = np.random.default_rng(7)
    length = rng.normal(size=50)
    controls = np.column_stack([length, 2 * length, rng.normal(size=50)])
    controls -= controls.mean(axis=0)
    noise = rng.normal(size=50)
    rest, num_controls = remove_controls(3 * controls[:, 0] + noise - noise.mean(), controls)
    assert num_controls == 2
    assert rest @ controls == pytest.approx(np.zeros(3), abs=1e-10)


# regression ----------------------------------------------------------------------------------------------------------


def test_regression_is_least_squares_and_covers_what_was_planted():
    planted = np.array([0.5, 0.0, -0.3])
    covered = np.zeros(3)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        predictors = rng.normal(size=(120, 3))
        predictors[:, 1] += 0.7 * predictors[:, 0]
        y = predictors @ planted + 0.5 * rng.normal(size=120)
        predictors, y = predictors - predictors.mean(axis=0), y - y.mean()
        beta, low, high, _ = regress(predictors, y, num_fitted=0, num_resamples=200, seed=0)
        assert beta == pytest.approx(np.linalg.lstsq(predictors, y)[0])
        covered += (low <= planted) & (planted <= high)
    assert covered.min() >= 86  # 95 % less four standard deviations of 2.2


def test_variance_inflation_is_one_over_what_the_others_leave():
    rng = np.random.default_rng(8)
    predictors = rng.normal(size=(200, 3))
    predictors[:, 2] = predictors[:, 0] + predictors[:, 1] + 0.1 * rng.normal(size=200)
    predictors -= predictors.mean(axis=0)
    *_, inflation = regress(predictors, rng.normal(size=200), num_fitted=0, num_resamples=10, seed=0)
    for k in range(3):
        rest, _ = remove_controls(predictors[:, k], np.delete(predictors, k, axis=1))
        assert inflation[k] == pytest.approx(predictors[:, k].var() / rest.var())


def test_a_predictor_that_a_resample_lacks_is_no_error():
    rng = np.random.default_rng(9)
    predictors = np.column_stack([rng.normal(size=30), [1.0] + [0.0] * 29])
    predictors -= predictors.mean(axis=0)
    beta, low, high, _ = regress(predictors, rng.normal(size=30), num_fitted=0, **RESAMPLING)
    assert np.isfinite([beta, low, high]).all()
