"""What each prompt is like and what it costs: one row for each model and prompt.

Rows of requests, samples and trials enter. The prompt is the unit of every correlation, so its repetitions, in one
trial and in several, are averaged first. Next: `feature_pairs.py`.
"""

import polars as pl

from runner.results.tables import REQUESTS, SAMPLES

TARGETS = ("energy_j", "latency_s", "score")
LENGTHS = ("num_prompt_tokens", "num_output_tokens")
"""What a partial correlation holds constant."""
FEATURES = (
    *LENGTHS,
    *(name for name in REQUESTS if name.startswith("prompt_")),
    *(name for name, kind in SAMPLES.items() if kind.is_numeric()),
)
"""The output's length is no feature of a prompt. It is here because the other features are compared with it."""
_ATTRIBUTED = (
    "the requests' energies were attributed by a rule, and a rule's output recovers the rule: "
    "give the task repeat_each_s, which measures them"
)
_NOT_ASKED = "the model was not asked (measure_surprise = true in the task), or its engine tells no log-likelihoods"
_NOT_MEASURED = "no request's own energy was measured: give the task repeat_each_s"


def average_prompts(requests: pl.DataFrame, samples: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """Return each model's prompts with their features and their mean energy, latency and score.

    Only sound trials count, and of their requests those that did not fail and whose prompt was not cut, since features
    describe the whole text. Targets are standardised inside each trial before they are averaged, so that no effect of
    the clock, the GPU or drift counts as an effect of a prompt. Only energies of `energy_method` "measured" count.

    Args:
        requests: [num_requests] rows of `tables.REQUESTS`, of any trials.
        samples: [num_samples] rows of `tables.SAMPLES`.
        trials: [num_trials] rows of `tables.TRIALS`.
    Returns: [num_models x num_prompts] rows with the columns model, task, sample_id, `TARGETS` (in standard deviations
        of a trial's prompts) and `FEATURES`; null where unknown. Sorted by the first three.
    """
    sound = trials.filter(
        (pl.col("status") == "ok") & (pl.col("verdicts").list.len() == 0) & pl.col("phase_role").is_null()
    )
    latency_s = (pl.col("last_token_ns") - pl.col("queued_ns")) * 1e-9
    measured_j = pl.when(pl.col("energy_method") == "measured").then(pl.col("energy_j"))
    of_request = (*LENGTHS, *(name for name in FEATURES if name.startswith("prompt_")))
    by_trial = (
        requests.filter(pl.col("error").is_null() & ~pl.col("truncated").fill_null(False))
        .join(sound.select("trial_id", "model", "task"), on="trial_id")
        .with_columns(energy_j=measured_j, latency_s=latency_s)
        .group_by("model", "task", "trial_id", "sample_id", maintain_order=True)
        .agg(pl.col(*TARGETS, *of_request).mean())
    )
    by_prompt = (
        by_trial.with_columns(_standardised(name).over("trial_id") for name in TARGETS)
        .group_by("model", "task", "sample_id", maintain_order=True)
        .agg(pl.col(*TARGETS, *of_request).mean())
    )
    texts = samples.select("task", "sample_id", *(name for name, kind in SAMPLES.items() if kind.is_numeric()))
    return (
        by_prompt.join(texts, on=["task", "sample_id"], how="left")
        .select("model", "task", "sample_id", *(pl.col(name).cast(pl.Float64) for name in (*TARGETS, *FEATURES)))
        .sort("model", "task", "sample_id")
    )


def explain_missing(
    requests: pl.DataFrame, samples: pl.DataFrame, trials: pl.DataFrame
) -> dict[tuple[str, str], dict[str, str]]:
    """Return why a column of `average_prompts` may be all null: by (model, task), then by column."""
    attributed = requests.filter(pl.col("energy_method") == "attributed")["trial_id"].unique().implode()
    by_task = (
        trials.sort("model", "task")
        .group_by("model", "task", maintain_order=True)
        .agg(
            is_attributed=pl.col("trial_id").is_in(attributed).any(),
            quality_reason=pl.col("quality_reason").drop_nulls().first(),
        )
        .join(
            samples.group_by("task").agg(pl.col("entities_reason").drop_nulls().first()),
            on="task", how="left", maintain_order="left",
        )
    )  # fmt: skip
    reasons = {}
    for model, task, is_attributed, quality_reason, entities_reason in by_task.rows():
        known = {
            "energy_j": _ATTRIBUTED if is_attributed else _NOT_MEASURED,
            "score": quality_reason,
            "prompt_surprise_nats": _NOT_ASKED,
            "entities_per_100_words": entities_reason,
        }
        reasons[model, task] = {name: reason for name, reason in known.items() if reason}
    return reasons


def _standardised(name: str) -> pl.Expr:
    """In standard deviations from the mean; null if the values differ by no more than rounding."""
    values = pl.col(name)
    spread = values.std(ddof=0)
    return pl.when(spread > 1e-9 * values.abs().max()).then((values - values.mean()) / spread)
