"""Quality of several models on the samples that fit them all.

A prompt beyond a model's context is cut from the left and marked as truncated. The answer to it says little about the
model. Requests of several models enter, `COMMON_QUALITY` leaves: one row a model and task, on equal samples. Next:
study.
"""

import polars as pl

COMMON_QUALITY: dict[str, pl.DataType] = {
    "task": pl.String(),
    "model": pl.String(),
    "num_samples": pl.Int64(),
    "num_truncated_samples": pl.Int64(),
    "num_unscored_samples": pl.Int64(),
    "num_common_samples": pl.Int64(),
    "quality": pl.Float64(),
    "quality_stderr": pl.Float64(),
    "reason": pl.String(),
}
"""What `compare_on_common_samples` returns.

num_samples: distinct samples that the model was asked. num_truncated_samples of them were cut to fit it, and
    num_unscored_samples have no score, since their requests failed.
num_common_samples: samples that every model of the task was asked, and that were neither cut nor failed for any model.
quality, quality_stderr: mean score of the common samples, and its standard error (null for fewer than two).
reason: why quality is null.
"""
_KEYS = ("task", "model")


def find_common_samples(requests: pl.DataFrame) -> pl.DataFrame:
    """Return the samples of each task that every one of its models was asked, neither cut nor failed for any.

    Args:
        requests: [num_requests] rows of `tables.REQUESTS` with the columns task and model of their trials.
    Returns: [num_common_samples] distinct rows (task, sample_id), sorted. A sample is left out if one of its requests
        was cut.
    """
    num_models = requests.group_by("task").agg(num_models=pl.col("model").n_unique())
    return (
        _samples(requests)
        .filter(~pl.col("truncated"), ~pl.col("failed"))
        .group_by("task", "sample_id")
        .agg(num_fitting=pl.len())
        .join(num_models, on="task")
        .filter(pl.col("num_fitting") == pl.col("num_models"))
        .select("task", "sample_id")
        .sort("task", "sample_id")
    )


def compare_on_common_samples(requests: pl.DataFrame) -> pl.DataFrame:
    """Compare models by the mean score of the samples that fit them all.

    Args:
        requests: as in `find_common_samples`, of one or more trials of each model. A sample's score is the mean over
            its requests that have one. The choices of a question carry the same score, and so do its rounds.
    Returns: rows of `COMMON_QUALITY`, by task and model. A metric that is no mean over samples has no score for each,
        so that it cannot be computed again. Then `reason` says so.
    """
    samples = _samples(requests)
    common = samples.join(find_common_samples(requests), on=["task", "sample_id"], how="semi")
    counts = samples.group_by(_KEYS).agg(
        num_samples=pl.len(),
        num_truncated_samples=pl.col("truncated").sum(),
        num_unscored_samples=pl.col("failed").sum(),
        num_scored=pl.col("score").count(),
    )
    scores = common.group_by(_KEYS).agg(
        num_common_samples=pl.len(),
        quality=pl.col("score").mean(),
        quality_stderr=pl.col("score").std() / pl.col("score").count().sqrt(),
    )
    return (
        counts.join(scores, on=_KEYS, how="left")
        .with_columns(pl.col("num_common_samples").fill_null(0))
        .with_columns(
            reason=pl.when(pl.col("num_scored") == 0)
            .then(pl.lit("its metric is no mean over samples, or it was not scored"))
            .when(pl.col("num_common_samples") == 0)
            .then(pl.lit("no sample fits every model of this task"))
        )
        .select(pl.col(name).cast(dtype) for name, dtype in COMMON_QUALITY.items())
        .sort(_KEYS)
    )


def _samples(requests: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each task, model and sample: whether a request was cut, its score, and whether it failed."""
    samples = requests.group_by(*_KEYS, "sample_id").agg(
        truncated=pl.col("truncated").fill_null(False).any(), score=pl.col("score").mean()
    )
    is_scored = pl.col("score").is_not_null().any().over(_KEYS)
    return samples.with_columns(failed=is_scored & pl.col("score").is_null())
