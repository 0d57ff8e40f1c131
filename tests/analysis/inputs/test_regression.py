"""The regression on all features at once, on prompts with planted coefficients."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.analysis.inputs.prompt_costs import FEATURES, LENGTHS, TARGETS
from runner.analysis.inputs.regression import PROMPTS_PER_FEATURE, SAME_LENGTH, Beta, regress_prompts

FAST = {"num_resamples": 200, "seed": 0}


def make_prompts(num: int, *, model: str = "small", task: str = "qa", **columns: Any) -> pl.DataFrame:
    """Prompts of one model and task, as `average_prompts` returns them; what is not given is unknown."""
    rng = np.random.default_rng(0)
    given = {
        "model": [model] * num,
        "task": [task] * num,
        "sample_id": [f"{task}/{k}" for k in range(num)],
        "num_prompt_tokens": rng.integers(50, 500, num),
        "num_output_tokens": rng.integers(5, 50, num),
    } | columns
    numbers = [
        (pl.col(name) if name in given else pl.lit(None)).cast(pl.Float64).alias(name) for name in (*TARGETS, *FEATURES)
    ]
    return pl.DataFrame(given).select("model", "task", "sample_id", *numbers)


def normal(seed: int, num: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=num)


def test_planted_coefficients_are_found_though_the_features_go_together() -> None:
    mtld = normal(1)
    digits = 0.6 * mtld + 0.8 * normal(2)
    energy_j = 2.0 * mtld - digits + 0.5 * normal(3)
    betas = regress_prompts(make_prompts(200, mtld=mtld, digit_fraction=digits, energy_j=energy_j), "energy_j", **FAST)
    spread = energy_j.std()
    for name, planted in (("mtld", 2.0 * mtld.std() / spread), ("digit_fraction", -digits.std() / spread)):
        beta = betas[name]
        assert beta.beta == pytest.approx(planted, abs=0.06)
        assert beta.beta_low < planted < beta.beta_high
        assert beta.variance_inflation == pytest.approx(1 / (1 - 0.6**2), rel=0.25)
        assert beta.beta_reason is None


def test_what_follows_the_length_has_no_coefficient() -> None:
    prompts = make_prompts(200)
    length = prompts["num_prompt_tokens"].to_numpy()
    entropy = np.log2(length) + 0.2 * normal(1)
    energy_j = 0.1 * length + normal(2)
    betas = regress_prompts(make_prompts(200, word_entropy_bits=entropy, energy_j=energy_j), "energy_j", **FAST)
    beta = betas["word_entropy_bits"]
    assert beta.beta_low < 0 < beta.beta_high
    assert abs(np.corrcoef(entropy, energy_j)[0, 1]) > 0.8


def test_every_feature_has_a_coefficient_or_a_reason() -> None:
    betas = regress_prompts(make_prompts(200, mtld=normal(1), energy_j=normal(2)), "energy_j", **FAST)
    assert set(betas) == set(FEATURES)
    for name, beta in betas.items():
        assert (beta.beta is None) == (beta.beta_reason is not None), name
    assert {betas[name].beta_reason for name in LENGTHS} == {"held constant"}
    assert all(betas[name].beta_reason.startswith("the same length") for name in SAME_LENGTH)
    assert betas["digit_fraction"].beta_reason == "known of 0 of 200 prompts"


@pytest.mark.parametrize(
    ("digits", "reason"),
    [
        ([0.5] * 200, "the same for every prompt"),
        ([0.5] * 197 + [0.1, 0.2, 0.3], "the same but for 3 prompts"),
        ([*normal(4, 179), *[None] * 21], "known of 179 of 200 prompts"),
    ],
)
def test_a_feature_that_tells_little_says_so(digits: list[float], reason: str) -> None:
    prompts = make_prompts(200, mtld=normal(1), energy_j=normal(2), digit_fraction=digits)
    betas = regress_prompts(prompts, "energy_j", **FAST)
    assert betas["digit_fraction"] == Beta(beta_reason=reason)
    assert betas["mtld"].beta is not None


def test_features_that_tell_each_other_have_none() -> None:
    grade = normal(1)
    prompts = make_prompts(
        200,
        automated_readability_index=grade,
        coleman_liau_index=grade + 0.05 * normal(2),
        mtld=normal(3),
        energy_j=grade + normal(4),
    )
    betas = regress_prompts(prompts, "energy_j", **FAST)
    for name in ("automated_readability_index", "coleman_liau_index"):
        assert betas[name].beta is None
        assert betas[name].variance_inflation > 100
        assert betas[name].beta_reason.startswith("the other features tell it")
    assert betas["mtld"].beta is not None


def test_too_few_prompts_say_how_many_are_needed() -> None:
    """One feature, five terms of the lengths and their mean."""
    few = PROMPTS_PER_FEATURE + 4
    betas = regress_prompts(make_prompts(few, mtld=normal(1, few), energy_j=normal(2, few)), "energy_j", **FAST)
    assert betas["mtld"].beta_reason == f"{few} prompts: 15 are needed for 1 features and the lengths"
    enough = few + 1
    prompts = make_prompts(enough, mtld=normal(1, enough), energy_j=normal(2, enough))
    assert regress_prompts(prompts, "energy_j", **FAST)["mtld"].beta is not None


def test_a_difference_between_models_or_tasks_is_no_effect_of_a_feature() -> None:
    parts = [
        make_prompts(
            100, model=model, task=task, mtld=level + normal(seed, 100), energy_j=level + normal(seed + 9, 100)
        )
        for seed, (model, task, level) in enumerate((("small", "a", 0.0), ("small", "b", 50.0), ("large", "a", 9.0)))
    ]
    beta = regress_prompts(pl.concat(parts), "energy_j", **FAST)["mtld"]
    assert beta.beta_low < 0 < beta.beta_high


def test_without_prompts_or_with_one_value_of_the_target_there_is_no_coefficient() -> None:
    for prompts in (make_prompts(0), make_prompts(50, mtld=normal(1, 50), energy_j=np.full(50, 3.0))):
        assert all(beta.beta is None for beta in regress_prompts(prompts, "energy_j", **FAST).values())
