"""A study: what trials say, and what their requests add."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import polars as pl
import pytest

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.model_comparison import LOAD_COMPARISONS
from runner.analysis.inputs.correlation import CORRELATIONS
from runner.analysis.run.summary import summarise_operating_points
from runner.analysis.study import Study, study_requests, study_trials
from runner.results.tables import REQUESTS, SAMPLES
from tests.analysis.trial_rows import block, frame, trial

CHANGES = {1500: (0.85, 1.02), 990: (0.80, 1.10)}


# trials --------------------------------------------------------------------------------------------------------------


def test_every_table_is_there_with_and_without_trials() -> None:
    for rows in ([], block(CHANGES)):
        study = study_trials(frame(*rows))
        assert list(study.tables()) == [
            "points",
            "recommendations",
            "mixed_loads",
            "models",
            "concurrencies",
            "rates",
            "following",
            "pareto",
            "routing",
            "common_quality",
            "correlations",
            "verdicts",
            "failures",
            "costs",
        ]
        frames = [field.name for field in fields(Study) if field.name not in ("trials", "limits", "tariff")]
        assert len(study.tables()) == len(frames)
        assert study.points.equals(summarise_operating_points(frame(*rows)))
        assert dict(study.concurrencies.schema) == LOAD_COMPARISONS


def test_limits_choose_what_is_recommended() -> None:
    def recommended(limits: Limits) -> int | None:
        study = study_trials(frame(*block(CHANGES)), limits)
        assert study.limits == limits
        return study.recommendations.filter(goal="energy")["sm_clock_mhz_requested"].item()

    assert recommended(NO_LIMITS) == 990
    assert recommended(Limits(max_slowdown=0.05)) == 1500


def test_loads_are_compared_at_their_recommended_operating_points() -> None:
    """At its own best clock each: 0.80 J by 4 in flight and 0.85 of 2 J by 1, where 990 MHz is too slow."""
    few = {1500: (0.85, 1.02), 990: (0.80, 1.50)}
    rows = block(CHANGES) + [
        row | {"joules_per_output_token": 2 * row["joules_per_output_token"], "trial_id": f"few-{i}"}
        for i, row in enumerate(block(few, block_id="c", concurrency=1))
    ]
    study = study_trials(frame(*rows), Limits(max_slowdown=0.2))
    [row] = study.concurrencies.to_dicts()
    assert (row["concurrency"], row["reference_concurrency"]) == (1, 4)
    assert row["ratio"] == pytest.approx(2 * 0.85 / 0.80, rel=1e-6)


def test_verdicts_and_failures_are_counted() -> None:
    rows = [
        trial(None, 1.0, verdicts=["trace_gap"]),
        trial(990, None, status="failed", error="the engine died", verdicts=[]),
    ]
    study = study_trials(frame(*rows))
    assert study.verdicts.rows() == [("trace_gap", 1)]
    assert study.failures.rows() == [("the engine died", 1)]


# requests: where prompts were cut ------------------------------------------------------------------------------------


def add_requests(trials: pl.DataFrame, requests: pl.DataFrame, samples: pl.DataFrame | None = None) -> Study:
    def scan(trial_ids: Collection[str]) -> pl.LazyFrame:
        return requests.lazy().filter(pl.col("trial_id").is_in(list(trial_ids)))

    return study_requests(study_trials(trials), pl.DataFrame(schema=SAMPLES) if samples is None else samples, scan)


def make_study(cut: dict[str, set[str]]) -> Study:
    """Models that answered the same four samples; `cut`: by model, which of them did not fit it."""
    trials = frame(
        *(
            trial(clock, 1.0, model=model, block_id=model, num_requests=4, num_truncated_requests=len(samples))
            for model, samples in cut.items()
            for clock in (None, 990)
        )
    )
    requests = pl.DataFrame(
        [
            {"trial_id": trial_id, "request_id": f"{sample}#0", "sample_id": sample, "score": float(sample < "c")}
            | {"truncated": sample in cut[model]}
            for trial_id, model in trials.select("trial_id", "model").iter_rows()
            for sample in "abcd"
        ],
        schema=REQUESTS,
    )
    return add_requests(trials, requests)


def test_models_that_cut_prompts_are_compared_on_those_that_fit_them_all() -> None:
    long, short = make_study({"long": {"d"}, "short": {"c", "d"}}).common_quality.to_dicts()
    assert (long["model"], short["model"]) == ("long", "short")
    assert (long["num_truncated_samples"], short["num_truncated_samples"]) == (1, 2)
    for row in (long, short):
        assert (row["num_samples"], row["num_common_samples"], row["quality"]) == (4, 2, 1.0)


def test_without_cut_prompts_or_with_one_model_there_is_nothing_to_make_equal() -> None:
    assert make_study({"long": set(), "short": set()}).common_quality.is_empty()
    assert make_study({"short": {"d"}}).common_quality.is_empty()


# requests: what inputs cost ------------------------------------------------------------------------------------------

NUM_SAMPLES = 30


def make_inputs(method: str, **columns: Any) -> Study:
    """Thirty prompts whose energy follows `mtld`, asked one at a time."""
    trials = frame(trial(None, 1.0, trial_id="t", **{"concurrency": 1} | columns))
    mtld = [float(7 * k % NUM_SAMPLES) for k in range(NUM_SAMPLES)]
    requests = pl.DataFrame(
        [
            {
                "trial_id": "t",
                "request_id": f"qa/{k}#0",
                "round": 0,
                "sample_id": f"qa/{k}",
                "num_prompt_tokens": 100 + k % 7,
                "num_output_tokens": 10 + k % 5,
                "energy_j": 5.0 + mtld[k],
                "energy_method": method,
            }
            for k in range(NUM_SAMPLES)
        ],
        schema=REQUESTS,
    )
    samples = pl.DataFrame(
        [{"task": "qa", "sample_id": f"qa/{k}", "mtld": mtld[k]} for k in range(NUM_SAMPLES)], schema=SAMPLES
    )
    return add_requests(trials, requests, samples)


def test_measured_requests_are_correlated_with_the_features_of_their_prompts() -> None:
    correlations = make_inputs("measured").correlations
    assert dict(correlations.schema) == CORRELATIONS
    row = correlations.filter(scope="task", target="energy_j", feature="mtld").row(0, named=True)
    assert (row["num_prompts"], row["pearson"]) == (NUM_SAMPLES, pytest.approx(1.0))


@pytest.mark.parametrize(
    "columns",
    [{"concurrency": 2}, {"verdicts": ["trace_gap"]}, {"status": "failed"}, {"concurrency": None}],
    ids=["beside others", "verdict", "failed", "load unknown"],
)
def test_only_sound_trials_of_single_requests_tell_what_an_input_costs(columns: dict[str, Any]) -> None:
    assert make_inputs("measured", **columns).correlations.is_empty()
    assert make_inputs("attributed").correlations.is_empty()


# requests: routing ---------------------------------------------------------------------------------------------------


def test_a_router_is_bounded_where_several_models_answered() -> None:
    trials = frame(*(trial(None, 1.0, model=name, block_id=name, trial_id=name, quality=0.5) for name in ("a", "b")))
    requests = pl.DataFrame(
        [
            {"trial_id": name, "request_id": f"qa/{k}#0", "round": 0, "sample_id": f"qa/{k}"}
            | {"score": float(name == "b" or k < 15), "energy_j": joules, "energy_method": "attributed"}
            for name, joules in (("a", 1.0), ("b", 4.0))
            for k in range(NUM_SAMPLES)
        ],
        schema=REQUESTS,
    )
    [route] = add_requests(trials, requests).routes.to_dicts()
    assert (route["reference_model"], route["smaller_suffices"]) == ("b", 0.5)
    assert route["saving"] == pytest.approx(1 - 2.5 / 4)
