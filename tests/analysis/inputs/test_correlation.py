"""Planted effects are found, lengths in disguise vanish, and of nothing nothing is found."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from runner.analysis.inputs.correlation import ALL_MODELS, COEFFICIENTS, CORRELATIONS, correlate, make_heat_map
from runner.analysis.inputs.prompt_costs import FEATURES, LENGTHS, TARGETS
from runner.results.tables import REQUESTS, SAMPLES, TRIALS
from tests.analysis.prompt_tables import make_requests, make_samples, make_trial

FAST = {"num_resamples": 200, "seed": 0}


def row_of(found: pl.DataFrame, target: str, feature: str, scope: str = "task", **where: Any) -> dict[str, Any]:
    rows = found.filter(scope=scope, target=target, feature=feature, **where)
    assert rows.height == 1
    return rows.row(0, named=True)


def make_world(
    seed: int, num: int = 120, *, effect: float = 0.0, models: tuple[str, ...] = ("small",), num_trials: int = 1
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A task whose energy follows the lengths, quadratically as attention does, and `effect` x digit_fraction.

    Word entropy, type-token ratio and the other lengths follow the prompt's length, each by a law of its own.
    """
    rng = np.random.default_rng(seed)
    prompt, output = rng.integers(40, 600, num), rng.integers(5, 100, num)
    digits = rng.uniform(0, 0.2, num)
    samples = make_samples(
        "qa",
        num,
        num_words=prompt * 3 // 4,
        num_characters=4 * prompt + rng.integers(-40, 40, num),
        word_entropy_bits=np.log2(prompt) + rng.normal(0, 0.2, num),
        type_token_ratio=3 * prompt**-0.4 + rng.normal(0, 0.02, num),
        mtld=rng.normal(70, 10, num),
        digit_fraction=digits,
    )
    requests, trials = [], []
    for size, model in enumerate(models, start=1):
        for k in range(num_trials):
            clock = 1 + k  # a trial at another clock costs another multiple
            lengths = 5 + 0.02 * prompt + 0.1 * output + 5e-5 * prompt**2 + 2e-4 * prompt * output
            energy_j = size * clock * (lengths + effect * digits + rng.normal(0, 1, num))
            trial_id = f"{model}-{k}"
            requests.append(
                make_requests(
                    trial_id,
                    samples,
                    energy_j=energy_j,
                    latency_s=clock * (0.01 * output + 1e-4 * prompt + rng.normal(0, 0.02, num)) + 1,
                    score=rng.integers(0, 2, num).astype(float),
                    num_prompt_tokens=prompt,
                    num_output_tokens=output,
                )
            )
            trials.append(make_trial(trial_id, model, sm_clock_mhz_requested=1000 * clock))
    return pl.concat(requests), samples, pl.concat(trials)


# what is found -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_effect_is_found_in_its_feature_with_its_sign(seed: int):
    found = correlate(*make_world(seed, effect=-30.0), **FAST)
    # One in a thousand instead of one in twenty: of five worlds, none then has a false discovery by chance.
    discoveries = found.filter(pl.col("partial_q_value") < 0.001).select("scope", "target", "feature").rows()
    lengths = [(target, length) for target in ("energy_j", "latency_s") for length in LENGTHS]
    planted = {*lengths, ("energy_j", "digit_fraction")}
    assert set(discoveries) == {(scope, *pair) for scope in ("task", "model", "all") for pair in planted}
    row = row_of(found, "energy_j", "digit_fraction")
    assert row["partial"] < 0
    assert row["beta_high"] < 0


def test_intervals_cover_the_planted_partial_correlation_and_coefficient():
    # Given the lengths, energy is effect x digits + noise of 1 J; digits are uniform over 0.2.
    effect, spread = 20.0, 0.2 / np.sqrt(12)
    planted = effect * spread / np.hypot(effect * spread, 1)
    covered, covered_beta, slopes = 0, 0, []
    for seed in range(30):
        requests, samples, trials = make_world(seed, effect=effect)
        # Energy alone, for the time that the other two would take.
        requests = requests.with_columns(score=pl.lit(None, pl.Float64), last_token_ns=pl.lit(None, pl.Int64))
        row = row_of(correlate(requests, samples, trials, **FAST), "energy_j", "digit_fraction")
        covered += row["partial_low"] <= planted <= row["partial_high"]
        scale = samples["digit_fraction"].std(ddof=0) / requests["energy_j"].std(ddof=0)
        covered_beta += row["beta_low"] <= effect * scale <= row["beta_high"]
        slopes.append(row["beta"] / scale)
    # 95 % of 30 is 28.5; less three standard deviations of 1.2
    assert covered >= 25
    assert covered_beta >= 25
    error = np.std(slopes) / np.sqrt(len(slopes))
    assert np.mean(slopes) == pytest.approx(effect, abs=4 * error)


def test_features_that_only_follow_the_length_vanish_once_it_is_held_constant():
    found = correlate(*make_world(1, num=400), **FAST)
    followers = ("num_words", "num_characters", "word_entropy_bits", "type_token_ratio")
    for name in followers:
        row = row_of(found, "energy_j", name)
        assert abs(row["pearson"]) > 0.7
        assert abs(row["spearman"]) > 0.7
        assert row["pearson_q_value"] < 1e-6
        assert row["partial_q_value"] > 0.05
        assert row["partial_low"] < 0 < row["partial_high"]
    for name in ("word_entropy_bits", "type_token_ratio"):
        assert row_of(found, "energy_j", name)["beta_low"] < 0 < row_of(found, "energy_j", name)["beta_high"]
    assert row_of(found, "energy_j", "num_words")["beta_reason"].startswith("the same length")


def test_false_discoveries_are_held_on_shuffled_data():
    requests, samples, trials = make_world(2, num=60, effect=30.0)
    as_it_was = correlate(requests, samples, trials, num_resamples=1)
    assert row_of(as_it_was, "energy_j", "digit_fraction")["partial_q_value"] < 1e-6
    num_shuffles, num_false = 40, dict.fromkeys(COEFFICIENTS, 0)
    for seed in range(num_shuffles):
        order = np.random.default_rng(seed).permutation(requests.height)
        shuffled = requests.with_columns(
            requests[name].gather(order) for name in ("energy_j", "queued_ns", "last_token_ns", "score")
        )
        found = correlate(shuffled, samples, trials, num_resamples=1).filter(scope="task")
        for name in COEFFICIENTS:
            num_false[name] += (found[f"{name}_q_value"] < 0.05).any()
    # Where nothing is true, every family with a discovery is a false one: 5 % of them at most. The bound is passed once
    # in 1500 times. Without the control four families in five would have one.
    assert max(num_false.values()) <= stats.binom.ppf(1 - 1 / 1500, num_shuffles, 0.05)


# what is joined, and how ---------------------------------------------------------------------------------------------


def test_repetitions_are_averaged_and_the_prompt_stays_the_unit():
    requests, samples, trials = make_world(3, num=40)
    once = correlate(requests, samples, trials, **FAST)
    twice = correlate(pl.concat([requests, requests]), samples, trials, **FAST)
    assert once.equals(twice)
    assert row_of(once, "energy_j", "mtld")["num_prompts"] == 40


def test_neither_the_clock_nor_the_model_is_taken_for_an_effect_of_prompts():
    # Long prompts were run at the fast clock only, by a mistake of the sweep; a constant clock effect must not show.
    samples = make_samples("qa", 40, mtld=np.arange(40.0))
    noise = np.random.default_rng(4).normal(size=40)
    low = make_requests("low", samples.head(20), energy_j=10 + noise[:20])
    high = make_requests("high", samples.tail(20), energy_j=1000 + noise[20:])
    trials = pl.concat([make_trial("low"), make_trial("high")])
    row = row_of(correlate(pl.concat([low, high]), samples, trials, **FAST), "energy_j", "mtld")
    assert row["num_prompts"] == 40
    assert row["pearson_low"] < 0 < row["pearson_high"]


def test_over_all_models_a_prompt_counts_once():
    found = correlate(*make_world(5, num=60, effect=20.0, models=("small", "large", "huge")), **FAST)
    every = row_of(found, "energy_j", "digit_fraction", "all")
    single = row_of(found, "energy_j", "digit_fraction", "model", model="large")
    assert every["num_prompts"] == single["num_prompts"] == 60
    assert every["partial"] > single["partial"]  # three models' noise averages out


def test_tasks_are_joined_without_their_difference():
    # Inside either task nothing; task "b" has more of both.
    rng = np.random.default_rng(6)
    parts = []
    for task, level in (("a", 0.0), ("b", 50.0)):
        samples = make_samples(task, 50, mtld=level + rng.normal(size=50))
        requests = make_requests(task, samples, energy_j=level + 10 + rng.normal(size=50))
        parts.append((requests, samples, make_trial(task, task=task)))
    found = correlate(*(pl.concat(frames) for frames in zip(*parts, strict=True)), **FAST)
    row = row_of(found, "energy_j", "mtld", "model")
    assert row["num_prompts"] == 100
    assert row["pearson_low"] < 0 < row["pearson_high"]
    assert abs(row["spearman"]) < 0.3


def test_one_task_is_the_same_row_in_every_scope():
    found = correlate(*make_world(7, num=50, effect=10.0), **FAST)
    numbers = [name for name in CORRELATIONS if name not in ("scope", "model", "task") and not name.endswith("q_value")]
    task, model, every = (found.filter(scope=scope).select(numbers) for scope in ("task", "model", "all"))
    for other in (model, every):
        for name in numbers:
            assert task[name].to_list() == pytest.approx(other[name].to_list(), nan_ok=True), name


def test_q_values_are_benjamini_hochbergs_over_a_scope():
    found = correlate(*make_world(8, num=40, models=("small", "large")), num_resamples=1)
    rows = found.filter(scope="model").drop_nulls("spearman_p_value")
    assert rows["model"].n_unique() == 2
    expected = stats.false_discovery_control(rows["spearman_p_value"].to_numpy())
    assert rows["spearman_q_value"].to_list() == pytest.approx(expected.tolist())


def test_a_length_is_compared_with_the_other_one_held_constant():
    # The output follows the prompt and the energy follows the output alone.
    rng = np.random.default_rng(9)
    prompt = rng.integers(50, 500, 200)
    output = prompt // 5 + rng.integers(0, 20, 200)
    samples = make_samples("qa", 200)
    requests = make_requests(
        "t",
        samples,
        energy_j=output + rng.normal(size=200),
        num_prompt_tokens=prompt,
        num_output_tokens=output,
    )
    found = correlate(requests, samples, make_trial("t"), **FAST)
    assert row_of(found, "energy_j", "num_output_tokens")["partial"] > 0.9
    prompt_row = row_of(found, "energy_j", "num_prompt_tokens")
    assert prompt_row["pearson"] > 0.9
    assert prompt_row["partial_low"] < 0 < prompt_row["partial_high"]


# what cannot be told -------------------------------------------------------------------------------------------------


def test_attributed_energies_are_refused():
    requests, samples, trials = make_world(10, num=30)
    requests = requests.with_columns(energy_method=pl.lit("attributed"))
    found = correlate(requests, samples, trials, **FAST)
    energy = found.filter(target="energy_j")
    assert energy["pearson"].null_count() == energy.height
    assert "a rule's output recovers the rule" in row_of(found, "energy_j", "mtld")["reason"]
    assert row_of(found, "latency_s", "mtld")["pearson"] is not None


def test_measured_energies_count_beside_attributed_ones():
    requests, samples, trials = make_world(11, num=30)
    attributed = requests.with_columns(energy_j=pl.lit(1e6), energy_method=pl.lit("attributed"))
    both = correlate(pl.concat([requests, attributed]), samples, trials, **FAST)
    assert row_of(both, "energy_j", "mtld") == row_of(correlate(requests, samples, trials, **FAST), "energy_j", "mtld")


def test_reasons_name_what_is_missing():
    samples = make_samples(
        "qa",
        40,
        mtld=np.arange(40.0),
        digit_fraction=np.zeros(40),
        punctuation_fraction=[0.1] * 3 + [0.0] * 37,
        compression_ratio=[1.0 + k for k in range(9)] + [None] * 31,
        entities_reason=["spaCy is not installed"] * 40,
    )
    requests = make_requests("t", samples, latency_s=1 + np.random.default_rng(12).uniform(size=40))
    trial = make_trial("t", quality_reason="random prompts have no right answer")
    found = correlate(requests, samples, trial, **FAST)

    def reason(target: str, feature: str) -> str:
        return row_of(found, target, feature)["reason"]

    assert reason("latency_s", "mtld") is None
    assert reason("energy_j", "mtld").startswith("no request's own energy was measured")
    assert reason("score", "mtld") == "random prompts have no right answer"
    assert reason("latency_s", "digit_fraction") == "digit_fraction is the same for every prompt"
    assert reason("latency_s", "punctuation_fraction") == "punctuation_fraction is the same but for 3 prompts"
    assert reason("latency_s", "compression_ratio").endswith("known of 9 prompts: 10 are needed")
    assert reason("latency_s", "entities_per_100_words") == "spaCy is not installed"
    assert reason("latency_s", "prompt_surprise_nats").startswith("the model was not asked (measure_surprise = true")
    beta_reason = row_of(found, "latency_s", "compression_ratio")["beta_reason"]
    assert beta_reason == "known of 9 of 40 prompts"


def test_a_constant_target_has_no_correlation():
    samples = make_samples("qa", 20, mtld=np.arange(20.0))
    requests = make_requests("t", samples, energy_j=np.full(20, 3.0), score=np.ones(20))
    found = correlate(requests, samples, make_trial("t"), **FAST)
    for target in ("energy_j", "score"):
        row = row_of(found, target, "mtld")
        assert row["pearson"] is row["beta"] is None
        assert row["reason"] is not None


def test_lengths_that_tell_a_target_exactly_leave_nothing_to_compare():
    rng = np.random.default_rng(13)
    prompt, output = rng.integers(50, 500, 60), rng.integers(5, 50, 60)
    samples = make_samples("qa", 60, mtld=rng.normal(size=60))
    requests = make_requests(
        "t", samples, energy_j=2.0 * prompt + output, num_prompt_tokens=prompt, num_output_tokens=output
    )
    row = row_of(correlate(requests, samples, make_trial("t"), **FAST), "energy_j", "mtld")
    assert row["pearson"] is not None
    assert row["partial"] is None
    assert row["partial_reason"] == "the lengths tell energy_j exactly"


def test_too_few_prompts_to_hold_the_lengths_constant():
    requests, samples, trials = make_world(14, num=13)
    row = row_of(correlate(requests, samples, trials, **FAST), "energy_j", "mtld")
    assert row["pearson"] is not None
    assert row["partial"] is None
    assert row["partial_reason"].startswith("13 prompts are too few")
    assert row["beta_reason"].startswith("13 prompts: ")


@pytest.mark.parametrize(
    "change",
    [{"status": "failed"}, {"verdicts": ["trace_gap"]}, {"phase_role": "one_token"}],
    ids=["failed", "verdict", "paired"],
)
def test_only_sound_trials_count(change: dict[str, Any]):
    requests, samples, _ = make_world(15, num=30)
    found = correlate(requests, samples, make_trial("small-0", **change), **FAST)
    assert found["pearson"].null_count() == found.height
    assert set(found["reason"]) == {"no sound trial with a whole prompt"}


def test_failed_requests_and_cut_prompts_are_left_out():
    requests, samples, trials = make_world(16, num=30)
    place = pl.int_range(pl.len())
    requests = requests.with_columns(
        error=pl.when(place < 4).then(pl.lit("out of memory")), truncated=pl.when(place < 10).then(place >= 4)
    )
    assert row_of(correlate(requests, samples, trials, **FAST), "energy_j", "mtld")["num_prompts"] == 20


def test_features_that_tell_each_other_have_no_coefficient():
    rng = np.random.default_rng(17)
    grade = rng.normal(9, 2, 100)
    samples = make_samples(
        "qa",
        100,
        automated_readability_index=grade,
        coleman_liau_index=grade + rng.normal(0, 0.1, 100),
        mtld=rng.normal(size=100),
    )
    requests = make_requests("t", samples, energy_j=grade + rng.normal(size=100))
    found = correlate(requests, samples, make_trial("t"), **FAST)
    row = row_of(found, "energy_j", "coleman_liau_index")
    assert row["variance_inflation"] > 100
    assert row["beta"] is None
    assert row["beta_reason"].startswith("the other features tell it")
    assert row_of(found, "energy_j", "mtld")["beta"] is not None


def test_nothing_in_nothing_out():
    empty = pl.DataFrame(schema=REQUESTS), pl.DataFrame(schema=SAMPLES), pl.DataFrame(schema=TRIALS)
    assert dict(correlate(*empty).schema) == CORRELATIONS
    assert correlate(*empty).is_empty()


# shapes --------------------------------------------------------------------------------------------------------------


def test_rows_are_complete_and_in_order():
    found = correlate(*make_world(18, num=30, models=("b", "a")), num_resamples=2)
    assert dict(found.schema) == CORRELATIONS
    scopes = [("task", "a", "qa"), ("task", "b", "qa"), ("model", "a", None), ("model", "b", None), ("all", None, None)]
    expected = [(*scope, target, feature) for scope in scopes for target in TARGETS for feature in FEATURES]
    assert found.select("scope", "model", "task", "target", "feature").rows() == expected


def test_the_heat_map_is_features_by_models():
    found = correlate(*make_world(19, num=60, effect=30.0, models=("b", "a")), num_resamples=2)
    matrix = make_heat_map(found, "energy_j")
    assert matrix.columns == ["feature", "a", "b", ALL_MODELS]
    assert matrix["feature"].to_list() == list(FEATURES)
    cell = matrix.filter(feature="digit_fraction")["b"].item()
    assert cell == row_of(found, "energy_j", "digit_fraction", "model", model="b")["partial"]
    assert matrix.filter(feature="coleman_liau_index")[ALL_MODELS].item() is None
    raw = make_heat_map(found, "score", "spearman").filter(feature="mtld")[ALL_MODELS].item()
    assert raw == row_of(found, "score", "mtld", "all")["spearman"]
