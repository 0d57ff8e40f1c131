"""The intervals on synthetic blocks with a known truth and known noise."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from runner.analysis.run.intervals import GPU_SPREAD, Repeats, compare_with_default, level_half_width
from runner.spec.sweep import SweepSpec
from runner.spec.trial import expand_trials

NUM_DRAWS = 2000
NOISE = 0.01
CHANGE = math.log(0.8)
DRIFT = 0.1
"""From a block's first trial to its last, on the logarithm: ten times the noise."""
ENERGY = np.array([True])
LATE = "D...D...PPPD"
"""The point in question is visited when the drift has done most of its work."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Over `NUM_DRAWS` blocks: how often an interval holds the truth, and how far estimates are off in the mean."""

    coverage: float
    level_coverage: float
    bias: float
    unpaired_bias: float


def product_order(num_points: int, num_repeats: int) -> str:
    """A block's trials as the product orders them: D default clock, P the point in question, . another point."""
    clocks = ["default", *range(600, 600 + 15 * (num_points - 1), 15)]
    sweep = SweepSpec.model_validate(
        {
            "name": "order",
            "repeats": num_repeats,
            "model": [{"id": "shapes/llama-3.2-1b"}],
            "task": [{"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8, "num_requests": 1}],
            "axes": {"concurrency": [1], "sm_clock": clocks},
        }
    )
    [block] = expand_trials(sweep)
    return "".join({"default": "D", 600: "P"}.get(trial.requested_point.sm_clock, ".") for trial in block.trials)


def repeats(time_s, logs, *, gpu: int = 0, uncertainty: float = math.nan) -> Repeats:
    num_trials = len(time_s)
    return Repeats(
        time_s=np.asarray(time_s, dtype=float),
        logs=np.asarray(logs, dtype=float).reshape(num_trials, -1),
        energy_uncertainty=np.full(num_trials, uncertainty),
        gpu=np.full(num_trials, gpu),
    )


def simulate(order: str, *, drift: float = 0.0, default_noise: float = NOISE) -> Findings:
    rng = np.random.default_rng(7)
    is_point, is_default = (np.array([mark == kind for mark in order]) for kind in "PD")
    noise = np.where(is_default, default_noise, NOISE)
    covered, level_covered, estimates, unpaired = [], [], [], []
    for _ in range(NUM_DRAWS):
        time_s = 15.0 * np.arange(len(order)) + rng.uniform(0, 5, len(order))
        logs = CHANGE * is_point + drift * time_s / time_s[-1] + noise * rng.standard_normal(len(order))
        trials, default = repeats(time_s[is_point], logs[is_point]), repeats(time_s[is_default], logs[is_default])
        change = compare_with_default(trials, default, ENERGY)
        covered.append(abs(change.log_ratio[0] - CHANGE) <= change.half_width[0])
        level_covered.append(abs(trials.logs.mean() - CHANGE) <= level_half_width(trials, default, ENERGY)[0])
        estimates.append(change.log_ratio[0])
        unpaired.append(trials.logs.mean() - default.logs.mean())
    return Findings(
        coverage=float(np.mean(covered)),
        level_coverage=float(np.mean(level_covered)),
        bias=float(np.mean(estimates)) - CHANGE,
        unpaired_bias=float(np.mean(unpaired)) - CHANGE,
    )


# 92 to 98 %: chance alone moves a count of 2000 by 0.5 % (one standard error).
@pytest.mark.parametrize(
    "order",
    [
        product_order(2, 1),
        product_order(5, 1),
        product_order(5, 2),
        product_order(5, 3),
        product_order(16, 3),
        product_order(5, 5),
        product_order(5, 10),
        "DPPPD",  # every pair shares the same two default-clock trials
        "DPPPPPPPPPP",  # and here a single one
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(order):
    found = simulate(order)
    assert 0.92 <= found.coverage <= 0.98
    assert 0.92 <= found.level_coverage <= 0.98


@pytest.mark.parametrize("order", [product_order(5, 3), product_order(16, 3), product_order(5, 10), LATE])
def test_a_drift_ten_times_the_noise_changes_nothing_from_three_pairs_on(order):
    found = simulate(order, drift=DRIFT)
    assert 0.92 <= found.coverage <= 0.98
    # Three standard errors of a mean of 2000 estimates; three pairs at least, so one errs by less than 1.5 x the noise.
    assert abs(found.bias) < 3 * 1.5 * NOISE / math.sqrt(NUM_DRAWS)


def test_without_pairing_the_drift_becomes_a_result():
    found = simulate(LATE, drift=DRIFT)
    assert found.unpaired_bias > 3 * NOISE
    assert abs(found.bias) < 0.02 * found.unpaired_bias


def test_a_drift_makes_intervals_that_borrow_the_default_clocks_spread_too_wide_never_too_narrow():
    found = simulate(product_order(5, 2), drift=DRIFT)
    assert found.coverage > 0.98
    assert abs(found.bias) < 3 * 1.5 * NOISE / math.sqrt(NUM_DRAWS)


@pytest.mark.parametrize("default_noise", [NOISE / 2, 2 * NOISE])
def test_the_default_clock_may_be_noisier_or_quieter(default_noise):
    assert 0.92 <= simulate(product_order(5, 3), default_noise=default_noise).coverage <= 0.98


def test_outside_the_first_and_last_default_trial_the_nearest_one_counts():
    default = repeats([10.0, 20.0], [0.0, 1.0])
    for time_s, expected in ((0.0, 0.0), (10.0, 0.0), (12.5, 0.25), (20.0, 1.0), (99.0, 1.0)):
        assert compare_with_default(repeats([time_s], [3.0]), default, ENERGY).log_ratio[0] == 3.0 - expected


def test_metrics_are_told_apart_and_unknown_values_make_no_pairs():
    default = repeats([0.0, 9.0], [[0.0, 1.0, math.nan], [0.0, 1.0, math.nan]])
    trials = repeats([1.0, 2.0, 3.0], [[0.5, 3.0, 1.0], [math.nan, 3.0, 1.0], [0.7, 3.0, 1.0]])
    change = compare_with_default(trials, default, np.array([True, False, False]))
    assert change.log_ratio[:2] == pytest.approx([0.6, 2.0])
    assert math.isnan(change.log_ratio[2])
    assert math.isnan(change.half_width[2])
    assert change.half_width[:2] == pytest.approx([0.0, 0.0])  # two known pairs borrow a spread, which is none here


def test_no_spread_is_made_up_where_none_was_seen():
    one, other = repeats([1.0], [0.5]), repeats([0.0], [0.0])
    assert math.isnan(level_half_width(one, other, ENERGY)[0])
    assert math.isnan(compare_with_default(one, other, ENERGY).half_width[0])
    none = other.take(np.array([False]))
    assert math.isnan(level_half_width(one, none, ENERGY)[0])


def test_what_repeats_do_not_show_is_added_to_energies_alone():
    both = np.array([True, False])
    trials = repeats([1.0, 2.0, 3.0], [[0.5, 0.5]] * 3, gpu=1, uncertainty=0.03)
    default = repeats([0.0, 9.0], [[0.0, 0.0]] * 2, gpu=1, uncertainty=0.04)
    assert level_half_width(trials, default, both).tolist() == pytest.approx([0.03, 0.0])
    assert compare_with_default(trials, default, both).half_width.tolist() == pytest.approx([0.05, 0.0])

    elsewhere = repeats([0.0, 9.0], [[0.0, 0.0]] * 2, gpu=2, uncertainty=0.04)
    change = compare_with_default(trials, elsewhere, both)
    assert not change.on_same_board
    assert change.half_width.tolist() == pytest.approx([math.hypot(0.05, GPU_SPREAD), 0.0])


def test_the_least_of_many_points_lies_inside_its_interval_for_chosen_points():
    """Sixteen points that need exactly as much as the default clock: the least one seems to save, and does not."""
    rng = np.random.default_rng(3)
    num_points, num_blocks = 16, 500
    plain, corrected = [], []
    for _ in range(num_blocks):
        default = repeats(np.arange(6.0), NOISE * rng.standard_normal(6))
        changes = [
            compare_with_default(
                repeats(rng.uniform(0, 6, 3), NOISE * rng.standard_normal(3)), default, ENERGY, num_compared=num_points
            )
            for _ in range(num_points)
        ]
        least = min(changes, key=lambda change: change.log_ratio[0])
        plain.append(abs(least.log_ratio[0]) <= least.half_width[0])
        corrected.append(abs(least.log_ratio[0]) <= least.half_width_if_chosen[0])
    assert np.mean(plain) < 0.90  # five standard errors of 500 draws below 0.95
    assert np.mean(corrected) >= 0.95


def test_one_point_alone_is_not_chosen():
    trials, default = repeats([0.0, 1.0, 2.0], [1.0, 1.1, 1.3], uncertainty=0.01), repeats([0.5, 1.5], [0.9, 1.0])
    alone = compare_with_default(trials, default, ENERGY)
    assert alone.half_width_if_chosen == pytest.approx(alone.half_width)
    among_five = compare_with_default(trials, default, ENERGY, num_compared=5)
    assert among_five.half_width == pytest.approx(alone.half_width)
    assert among_five.half_width_if_chosen > 2 * alone.half_width


def test_without_times_every_default_clock_trial_counts_alike():
    unknown = math.nan
    default = repeats([unknown] * 4, [0.9, 1.0, 1.1, 1.2])
    change = compare_with_default(repeats([unknown], [2.0]), default, ENERGY)
    assert change.log_ratio[0] == pytest.approx(2.0 - 1.05)
    # t of three degrees of freedom, the spread of the four, one trial against the mean of four
    assert change.half_width[0] == pytest.approx(3.182446 * np.std([0.9, 1.0, 1.1, 1.2], ddof=1) * math.sqrt(1 + 1 / 4))
