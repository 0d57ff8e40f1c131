"""What a run's requests say of its models, where prompts were cut."""

import polars as pl

from runner.analysis.study import Study, study_requests, study_trials
from runner.results.tables import REQUESTS, SAMPLES
from tests.analysis.trial_rows import frame, trial


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
    return study_requests(
        study_trials(trials),
        pl.DataFrame(schema=SAMPLES),
        lambda trial_ids: requests.lazy().filter(pl.col("trial_id").is_in(list(trial_ids))),
    )


def test_models_that_cut_prompts_are_compared_on_those_that_fit_them_all() -> None:
    long, short = make_study({"long": {"d"}, "short": {"c", "d"}}).common_quality.to_dicts()
    assert (long["model"], short["model"]) == ("long", "short")
    assert (long["num_truncated_samples"], short["num_truncated_samples"]) == (1, 2)
    for row in (long, short):
        assert (row["num_samples"], row["num_common_samples"], row["quality"]) == (4, 2, 1.0)


def test_without_cut_prompts_or_with_one_model_there_is_nothing_to_make_equal() -> None:
    assert make_study({"long": set(), "short": set()}).common_quality.is_empty()
    assert make_study({"short": {"d"}}).common_quality.is_empty()
