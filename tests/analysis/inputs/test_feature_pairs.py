"""A feature beside a target: raw, with the lengths held constant, or the reason why not."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.analysis.inputs.feature_pairs import (
    MIN_DIFFERENT,
    MIN_PROMPTS,
    FeaturePair,
    average_pairs,
    compare_feature,
    count_different,
    make_controls,
)

NUM = 40


def make_prompts(num: int = NUM, **columns: Any) -> pl.DataFrame:
    """Prompts of one model and task whose lengths vary independently."""
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "sample_id": [f"qa/{k}" for k in range(num)],
            "num_prompt_tokens": rng.integers(50, 500, num).astype(float),
            "num_output_tokens": rng.integers(5, 50, num).astype(float),
        }
        | columns
    )


def noise(seed: int, num: int = NUM) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=num)


def test_both_are_standardised() -> None:
    feature, target = 5.0 + 2.0 * noise(1), noise(2)
    compared = compare_feature(make_prompts(mtld=feature, energy_j=target), "mtld", "energy_j", {})
    assert compared.reason is None
    assert compared.raw.feature == pytest.approx((feature - feature.mean()) / feature.std())
    assert compared.raw.target == pytest.approx((target - target.mean()) / target.std())
    assert compared.raw.sample_ids == tuple(f"qa/{k}" for k in range(NUM))
    assert compared.raw.num_controls == 0


def test_what_follows_the_lengths_leaves_nothing_with_them_held_constant() -> None:
    prompts = make_prompts()
    lengths = prompts["num_prompt_tokens"].to_numpy(), prompts["num_output_tokens"].to_numpy()
    energy_j = 0.1 * lengths[0] + 2e-4 * lengths[0] ** 2 + 1e-3 * lengths[0] * lengths[1]
    compared = compare_feature(make_prompts(mtld=noise(1), energy_j=energy_j), "mtld", "energy_j", {})
    assert compared.raw is not None
    assert compared.partial is None
    assert compared.partial_reason == "the lengths tell energy_j exactly"


def test_with_the_lengths_held_constant_the_rest_is_standardised_and_their_terms_are_counted() -> None:
    prompts = make_prompts()
    length = prompts["num_prompt_tokens"].to_numpy()
    feature, rest = noise(1), noise(2)
    compared = compare_feature(make_prompts(mtld=feature, energy_j=length + rest), "mtld", "energy_j", {})
    partial = compared.partial
    assert partial.num_controls == 5  # two lengths, their squares and their product
    assert (partial.feature.std(), partial.target.std()) == pytest.approx((1.0, 1.0))
    assert partial.target @ length == pytest.approx(0.0, abs=1e-6)
    assert abs(np.corrcoef(partial.target, rest)[0, 1]) > 0.9


def test_a_length_is_compared_with_the_other_one_held_constant() -> None:
    prompts = make_prompts(energy_j=noise(1))
    compared = compare_feature(prompts, "num_prompt_tokens", "energy_j", {})
    assert compared.partial.num_controls == 2  # the output's length and its square


def test_lengths_that_do_not_vary_hold_nothing_constant() -> None:
    same = make_prompts(
        mtld=noise(1), energy_j=noise(2), num_prompt_tokens=np.full(NUM, 100.0), num_output_tokens=np.full(NUM, 10.0)
    )
    assert make_controls(same, ["num_prompt_tokens", "num_output_tokens"]).shape == (NUM, 0)
    compared = compare_feature(same, "mtld", "energy_j", {})
    assert compared.partial is compared.raw


def test_controls_have_mean_0() -> None:
    controls = make_controls(make_prompts(), ["num_prompt_tokens", "num_output_tokens"])
    assert controls.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-12)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"mtld": [None] * NUM}, "mtld is not known"),
        ({"energy_j": [None] * NUM}, "no meter"),
        ({"mtld": [1.0, *range(8)] + [None] * 31}, "energy_j and mtld are known of 9 prompts: 10 are needed"),
        ({"mtld": [2.0] * NUM}, "mtld is the same for every prompt"),
        ({"mtld": [1.0] * 4 + [0.0] * 36}, "mtld is the same but for 4 prompts"),
        ({"energy_j": [2.0] * NUM}, "energy_j is the same for every prompt"),
    ],
)
def test_what_cannot_be_compared_says_why(columns: dict[str, Any], reason: str) -> None:
    known = {"mtld": noise(1), "energy_j": noise(2)} | columns
    schema = dict.fromkeys(known, pl.Float64)
    prompts = make_prompts().hstack(pl.DataFrame(known, schema=schema, strict=False))
    compared = compare_feature(prompts, "mtld", "energy_j", {"energy_j": "no meter"})
    assert (compared.raw, compared.partial, compared.reason) == (None, None, reason)


def test_no_prompts_and_few_prompts_say_why() -> None:
    empty = make_prompts(0, mtld=noise(1, 0), energy_j=noise(2, 0))
    assert compare_feature(empty, "mtld", "energy_j", {}).reason == "no sound trial with a whole prompt"
    few = MIN_PROMPTS + 4  # with five terms fewer than MIN_PROMPTS degrees of freedom are left
    compared = compare_feature(make_prompts(few, mtld=noise(1, few), energy_j=noise(2, few)), "mtld", "energy_j", {})
    assert compared.raw is not None
    assert compared.partial_reason == f"{few} prompts are too few to hold the lengths constant (5 terms)"


def test_a_prompt_of_several_models_is_averaged_and_counts_once() -> None:
    first = FeaturePair(sample_ids=("a", "b"), feature=np.array([1.0, -1.0]), target=np.array([1.0, -1.0]))
    second = FeaturePair(
        sample_ids=("b", "a", "c"),
        feature=np.array([-1.0, 1.0, 0.0]),
        target=np.array([1.0, 3.0, 2.0]),
        num_controls=3,
    )
    averaged = average_pairs([first, second])
    assert averaged.sample_ids == ("a", "b", "c")
    assert averaged.num_controls == 3
    # Targets of a, b, c: (1 + 3) / 2, (-1 + 1) / 2 and 2, in standard deviations from their mean of 4/3.
    assert averaged.target == pytest.approx(np.array([2 / 3, -4 / 3, 2 / 3]) / (8 / 9) ** 0.5)
    assert averaged.feature == pytest.approx(np.array([1.0, -1.0, 0.0]) / (2 / 3) ** 0.5)


def test_values_that_differ_from_the_most_frequent_one_are_counted() -> None:
    assert count_different(pl.Series([1.0] * 7 + [2.0] * MIN_DIFFERENT)) == MIN_DIFFERENT
    assert count_different(pl.Series([1.0, 1.0])) == 0
    assert count_different(pl.Series([], dtype=pl.Float64)) == 0
