"""Models compared on the samples that fit them all."""

import polars as pl
import pytest

from runner.analysis.advice.common_samples import COMMON_QUALITY, compare_on_common_samples, find_common_samples

SCHEMA = {
    "task": pl.String,
    "model": pl.String,
    "sample_id": pl.String,
    "truncated": pl.Boolean,
    "score": pl.Float64,
}


def table(*rows: tuple[str, str, str, bool | None, float | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


LONG, SHORT = "long context", "short context"
REQUESTS = table(
    ("qa", LONG, "qa/0", False, 1.0),
    ("qa", LONG, "qa/1", False, 0.0),
    ("qa", LONG, "qa/2", False, 1.0),
    ("qa", LONG, "qa/3", False, 1.0),
    ("qa", SHORT, "qa/0", False, 1.0),
    ("qa", SHORT, "qa/1", True, 0.0),
    ("qa", SHORT, "qa/2", False, 0.0),
    # qa/3 was never asked of the second model.
)


def row_of(table: pl.DataFrame, model: str, task: str = "qa") -> dict[str, object]:
    return table.row(by_predicate=(pl.col("model") == model) & (pl.col("task") == task), named=True)


def test_common_samples_fit_every_model_and_were_asked_of_each() -> None:
    assert find_common_samples(REQUESTS).rows() == [("qa", "qa/0"), ("qa", "qa/2")]


def test_quality_is_the_mean_over_them_with_its_standard_error() -> None:
    result = compare_on_common_samples(REQUESTS)
    assert result.schema == COMMON_QUALITY
    long, short = row_of(result, LONG), row_of(result, SHORT)
    assert (long["num_samples"], long["num_truncated_samples"], long["num_common_samples"]) == (4, 0, 2)
    assert (short["num_samples"], short["num_truncated_samples"], short["num_common_samples"]) == (3, 1, 2)
    assert (long["quality"], long["quality_stderr"], long["reason"]) == (1.0, 0.0, None)
    assert short["quality"] == 0.5
    assert short["quality_stderr"] == pytest.approx(0.5)  # standard deviation 0.7071 over the root of 2


def test_one_cut_choice_spoils_its_sample_and_repeats_count_once() -> None:
    choices = table(
        *(("mc", model, "mc/0", model == SHORT and choice == 3, 1.0) for model in (LONG, SHORT) for choice in range(4)),
        *(("mc", model, "mc/1", False, 0.0) for model in (LONG, SHORT) for _ in range(12)),
        *(("mc", model, "mc/2", False, 1.0) for model in (LONG, SHORT)),
    )
    result = compare_on_common_samples(choices)
    assert set(result["num_common_samples"]) == {2}
    assert result["quality"].to_list() == [0.5, 0.5]


def test_tasks_are_kept_apart() -> None:
    other = table(("facts", LONG, "facts/0", False, 1.0), ("facts", LONG, "facts/1", True, 0.0))
    result = compare_on_common_samples(pl.concat([REQUESTS, other]))
    assert row_of(result, LONG, "facts")["num_common_samples"] == 1
    assert row_of(result, LONG, "facts")["quality_stderr"] is None
    assert row_of(result, LONG)["num_common_samples"] == 2


def test_what_cannot_be_compared_says_why() -> None:
    nothing_fits = table(("qa", LONG, "qa/0", False, 1.0), ("qa", SHORT, "qa/0", True, 1.0))
    for row in compare_on_common_samples(nothing_fits).to_dicts():
        assert (row["num_common_samples"], row["quality"]) == (0, None)
        assert "no sample fits every model" in row["reason"]
    no_mean = REQUESTS.with_columns(score=pl.lit(None, dtype=pl.Float64))
    for row in compare_on_common_samples(no_mean).to_dicts():
        assert (row["quality"], row["quality_stderr"]) == (None, None)
        assert "no mean over samples" in row["reason"]


def test_a_sample_that_failed_for_one_model_counts_for_none() -> None:
    is_failed = (pl.col("model") == SHORT) & (pl.col("sample_id") == "qa/2")
    result = compare_on_common_samples(REQUESTS.with_columns(score=pl.when(is_failed).then(None).otherwise("score")))
    assert [row_of(result, model)["num_unscored_samples"] for model in (LONG, SHORT)] == [0, 1]
    assert result["num_common_samples"].to_list() == [1, 1]
    assert result["quality"].to_list() == [1.0, 1.0]


def test_unmarked_requests_fit() -> None:
    result = compare_on_common_samples(REQUESTS.with_columns(truncated=pl.lit(None, dtype=pl.Boolean)))
    assert set(result["num_common_samples"]) == {3}
