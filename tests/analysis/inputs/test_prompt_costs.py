"""What each prompt is like and what it costs: averages that can be computed on paper."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS, average_prompts, explain_missing
from tests.analysis.prompt_tables import make_requests, make_samples, make_trial

SAMPLES = make_samples("qa", 4, mtld=[1.0, 2.0, 3.0, 4.0])
STANDARD = [-1.3416408, -0.4472136, 0.4472136, 1.3416408]
"""1, 2, 3, 4 in standard deviations from their mean: 2.5 and sqrt(1.25)."""


def average(requests: pl.DataFrame, trials: pl.DataFrame, samples: pl.DataFrame = SAMPLES) -> pl.DataFrame:
    return average_prompts(requests, samples, trials)


def test_a_row_holds_a_prompts_features_and_its_targets_in_standard_deviations() -> None:
    requests = make_requests("t", SAMPLES, energy_j=np.array([10.0, 20.0, 30.0, 40.0]), latency_s=np.arange(1.0, 5.0))
    prompts = average(requests, make_trial("t"))
    assert prompts.columns == ["model", "task", "sample_id", *TARGETS, *FEATURES]
    assert prompts["sample_id"].to_list() == SAMPLES["sample_id"].to_list()
    assert prompts["energy_j"].to_list() == pytest.approx(STANDARD)
    assert prompts["latency_s"].to_list() == pytest.approx(STANDARD)
    assert prompts["score"].null_count() == 4
    assert prompts["mtld"].to_list() == [1.0, 2.0, 3.0, 4.0]
    assert set(prompts["num_prompt_tokens"]) == {100.0}


def test_trials_are_standardised_before_they_are_averaged() -> None:
    """A trial at another clock costs another multiple, which is no effect of any prompt."""
    fast = make_requests("fast", SAMPLES, energy_j=np.array([10.0, 20.0, 30.0, 40.0]))
    slow = make_requests("slow", SAMPLES, energy_j=np.array([1000.0, 2000.0, 3000.0, 4000.0]))
    prompts = average(pl.concat([fast, slow]), pl.concat([make_trial("fast"), make_trial("slow")]))
    assert prompts.height == 4
    assert prompts["energy_j"].to_list() == pytest.approx(STANDARD)


def test_rounds_of_a_prompt_are_averaged_inside_their_trial() -> None:
    requests = make_requests("t", SAMPLES, energy_j=np.array([10.0, 20.0, 30.0, 40.0]))
    lower, higher = (requests.with_columns(pl.col("energy_j") + offset) for offset in (-3.0, 3.0))
    prompts = average(pl.concat([lower, higher]), make_trial("t"))
    assert prompts["energy_j"].to_list() == pytest.approx(STANDARD)


def test_only_measured_energies_count() -> None:
    requests = make_requests(
        "t",
        SAMPLES,
        energy_j=np.array([10.0, 20.0, 30.0, 999.0]),
        energy_method=["measured", "measured", "measured", "attributed"],
    )
    energies = average(requests, make_trial("t"))["energy_j"].to_list()
    assert energies == [pytest.approx(-1.2247449), pytest.approx(0.0, abs=1e-12), pytest.approx(1.2247449), None]


@pytest.mark.parametrize("change", [{"status": "failed"}, {"verdicts": ["trace_gap"]}, {"phase_role": "half_length"}])
def test_only_sound_trials_count(change: dict[str, Any]) -> None:
    requests = make_requests("t", SAMPLES, energy_j=np.arange(4.0))
    assert average(requests, make_trial("t", **change)).is_empty()


def test_failed_requests_and_cut_prompts_are_left_out() -> None:
    requests = make_requests(
        "t", SAMPLES, energy_j=np.arange(4.0), error=[None, "aborted", None, None], truncated=[None, None, True, False]
    )
    assert average(requests, make_trial("t"))["sample_id"].to_list() == ["qa/0", "qa/3"]


def test_a_target_of_one_value_is_unknown() -> None:
    requests = make_requests("t", SAMPLES, energy_j=np.full(4, 3.0), score=np.ones(4))
    prompts = average(requests, make_trial("t"))
    assert prompts["energy_j"].null_count() == prompts["score"].null_count() == 4


def test_models_and_tasks_stand_in_order() -> None:
    requests = [make_requests(model, SAMPLES, energy_j=np.arange(4.0)) for model in ("b", "a")]
    trials = pl.concat([make_trial("b", "b"), make_trial("a", "a")])
    prompts = average(pl.concat(requests), trials)
    assert prompts["model"].to_list() == ["a"] * 4 + ["b"] * 4


def test_reasons_are_given_by_model_and_task() -> None:
    attributed = make_requests("t", SAMPLES, energy_j=np.arange(4.0), energy_method=["attributed"] * 4)
    other = make_samples("other", 2, entities_reason=["spaCy is not installed"] * 2)
    trials = pl.concat([make_trial("t"), make_trial("u", task="other", quality_reason="no right answer")])
    reasons = explain_missing(attributed, pl.concat([SAMPLES, other]), trials)
    assert list(reasons) == [("small", "other"), ("small", "qa")]
    assert "attributed by a rule" in reasons["small", "qa"]["energy_j"]
    assert reasons["small", "other"]["energy_j"].startswith("no request's own energy was measured")
    assert reasons["small", "other"]["score"] == "no right answer"
    assert reasons["small", "other"]["entities_per_100_words"] == "spaCy is not installed"
    assert "score" not in reasons["small", "qa"]
