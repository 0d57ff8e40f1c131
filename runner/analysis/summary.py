"""From trials to operating points: repeats averaged, each point compared with its block's default clock.

Rows of `tables.TRIALS` enter; one row a block and operating point leaves (`OPERATING_POINTS`). The terminal report
formats it, `sweep report --json` prints it. Next: display.
"""

from collections.abc import Iterable

import polars as pl

BLOCK = ("block_id", "model", "task", "request_kind", "concurrency")
POINT = ("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested")
METRICS = (
    "joules_per_token",
    "joules_per_request",
    "energy_delay_product_js",
    "mean_power_w",
    "output_tokens_per_s",
    "requests_per_s",
    "latency_s_p50",
    "ttft_s_p50",
    "tpot_s_p50",
)
"""Each leaves four columns: the mean, `_sem`, `_change` and `_change_sem`."""
MIN_TRIALS_FOR_SEM = 3

OPERATING_POINTS: dict[str, pl.DataType] = {
    # what: a block and a point of it
    "block_id": pl.String(),
    "model": pl.String(),
    "task": pl.String(),
    "request_kind": pl.String(),
    "concurrency": pl.Int64(),
    "sm_clock_mhz_requested": pl.Int64(),
    "mem_clock_mhz_requested": pl.Int64(),
    "power_limit_w_requested": pl.Float64(),
    "is_default": pl.Boolean(),
    "gpu_name": pl.String(),
    "gpu_uuids": pl.List(pl.String()),
    "simulated": pl.Boolean(),
    # how much stands behind it
    "num_trials": pl.Int64(),
    "num_averaged": pl.Int64(),
    "num_with_verdicts": pl.Int64(),
    "num_failed": pl.Int64(),
    "verdicts": pl.List(pl.String()),
    "is_sound": pl.Boolean(),
    "default_is_sound": pl.Boolean(),
    "is_least_energy": pl.Boolean(),
    # means over the averaged trials, and how they compare with the default clock
    "sm_clock_mhz": pl.Float64(),
    "mem_clock_mhz": pl.Float64(),
    "throttled_fraction": pl.Float64(),
    "token_kind": pl.String(),
    **{f"{metric}{suffix}": pl.Float64() for metric in METRICS for suffix in ("", "_sem", "_change", "_change_sem")},
    "quality": pl.Float64(),
    "quality_stderr": pl.Float64(),
    "quality_difference": pl.Float64(),
    "quality_difference_stderr": pl.Float64(),
    "quality_metric": pl.String(),
    "quality_higher_is_better": pl.Boolean(),
    "quality_reason": pl.String(),
    "quality_chance": pl.Float64(),
    "output_agreement": pl.Float64(),
    "output_agreement_default": pl.Float64(),
}
"""What `summarise_operating_points` returns. Null means unknown, never 0.

is_default: no clock and no limit was asked for; sentinels belong to this row.
num_averaged: trials behind the means: the sound ones, or, where there is none (`is_sound` is false), the ones that
    finished with a verdict. `verdicts` names every reason that occurred, averaged or not.
is_least_energy: the sound point of its block with the least joules_per_token (of equals, the first row).
token_kind: "output" for generate; "prompt" for loglikelihood, which generates nothing.
*_sem: standard error of the mean over the averaged trials, from 3 of them on.
*_change: fraction of the default row's mean by which this one differs (-0.23: 23 % less); its `_sem` by propagation,
    null on the default row itself.
quality_stderr: the score's own standard error over documents. Repeats answer the same documents, so it is not divided
    by their number.
quality_difference: score minus the default row's, in the metric's own unit. Its stderr treats the two as independent;
    as both answer the same documents, it is an upper bound.
"""


def summarise_operating_points(trials: pl.DataFrame) -> pl.DataFrame:
    """Average repeats and compare every operating point with its block's default clock.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, in any order.
    Returns: [num_blocks x num_points] rows of `OPERATING_POINTS`: by model, task and concurrency; inside a block the
        default first, then memory clock, power limit and SM clock, highest first.
    """
    points = _average_trials(_mark_averaged(trials))
    points = _compare_with_default(points).sort(
        "model", "task", "concurrency", "block_id", "is_default", *POINT[1:], POINT[0],
        descending=[False] * 4 + [True] * 4,
        nulls_last=False,
    )  # fmt: skip
    return _mark_least_energy(points).select(pl.col(name).cast(dtype) for name, dtype in OPERATING_POINTS.items())


def count_verdicts(trials: pl.DataFrame) -> pl.DataFrame:
    """Count the trials that carry each verdict.

    Returns: columns verdict (String), num_trials; most frequent first.
    """
    return (
        trials.select(verdict=pl.col("verdicts"))
        .explode("verdict", empty_as_null=True)
        .drop_nulls()
        .group_by("verdict")
        .agg(num_trials=pl.len().cast(pl.Int64))
        .sort("num_trials", "verdict", descending=[True, False])
    )


def count_failures(trials: pl.DataFrame) -> pl.DataFrame:
    """Count the failed trials by the error that they failed with.

    Returns: columns error (String, null where none was recorded), num_trials; most frequent first.
    """
    return (
        trials.filter(pl.col("status") == "failed")
        .group_by("error")
        .agg(num_trials=pl.len().cast(pl.Int64))
        .sort("num_trials", "error", descending=[True, False])
    )


def _mark_averaged(trials: pl.DataFrame) -> pl.DataFrame:
    is_ok = pl.col("status") == "ok"
    has_verdict = pl.col("verdicts").list.len().fill_null(0) > 0
    is_generate = pl.col("request_kind") == "generate"
    return (
        trials.with_columns(
            is_ok=is_ok,
            has_verdict=has_verdict,
            is_sound=is_ok & ~has_verdict,
            token_kind=pl.when(is_generate).then(pl.lit("output")).otherwise(pl.lit("prompt")),
            joules_per_token=pl.when(is_generate).then("joules_per_output_token").otherwise("joules_per_prompt_token"),
        )
        .with_columns(point_is_sound=pl.col("is_sound").any().over(*BLOCK, *POINT))
        .with_columns(is_averaged=pl.col("is_sound") | (pl.col("is_ok") & ~pl.col("point_is_sound")))
    )


def _average_trials(trials: pl.DataFrame) -> pl.DataFrame:
    averaged = pl.col("is_averaged")
    means = (*METRICS, "sm_clock_mhz", "mem_clock_mhz", "throttled_fraction", "quality", "quality_stderr")
    firsts = ("quality_metric", "quality_higher_is_better", "quality_reason", "quality_chance", "gpu_name")
    return trials.group_by(*BLOCK, *POINT).agg(
        *(pl.col(name).filter(averaged).mean() for name in (*means, "output_agreement", "output_agreement_default")),
        *(_standard_error(pl.col(name).filter(averaged)).alias(f"{name}_sem") for name in METRICS),
        *(pl.col(name).drop_nulls().first() for name in firsts),
        pl.col("token_kind").first(),
        pl.col("gpu_uuids").explode(empty_as_null=True).drop_nulls().unique().sort(),
        pl.col("simulated").any(),
        pl.col("verdicts").explode(empty_as_null=True).drop_nulls().unique().sort(),
        num_trials=pl.len(),
        num_averaged=averaged.sum(),
        num_with_verdicts=(pl.col("is_ok") & pl.col("has_verdict")).sum(),
        num_failed=(~pl.col("is_ok")).sum(),
        is_sound=pl.col("is_sound").any(),
    )


def _standard_error(values: pl.Expr) -> pl.Expr:
    return pl.when(values.count() >= MIN_TRIALS_FOR_SEM).then(values.std() / values.count().sqrt())


def _compare_with_default(points: pl.DataFrame) -> pl.DataFrame:
    points = points.with_columns(is_default=pl.all_horizontal(_are_null(POINT)))
    compared = [*METRICS, *(f"{name}_sem" for name in METRICS), "quality", "quality_stderr", "is_sound"]
    default = points.filter("is_default").select(*BLOCK, *(pl.col(name).alias(f"{name}@0") for name in compared))
    changes = [expression for metric in METRICS for expression in _change(metric)]
    return points.join(default, on=BLOCK, how="left", nulls_equal=True).with_columns(
        *changes,
        pl.col("is_sound@0").alias("default_is_sound"),
        quality_difference=pl.col("quality") - pl.col("quality@0"),
        quality_difference_stderr=_unless_default(
            (pl.col("quality_stderr") ** 2 + pl.col("quality_stderr@0") ** 2).sqrt()
        ),
    )


def _change(metric: str) -> tuple[pl.Expr, pl.Expr]:
    value, default = pl.col(metric), pl.col(f"{metric}@0")
    relative_errors = (pl.col(f"{metric}_sem") / value, pl.col(f"{metric}_sem@0") / default)
    error = value / default * (relative_errors[0] ** 2 + relative_errors[1] ** 2).sqrt()
    return (
        pl.when(default > 0).then(value / default - 1).alias(f"{metric}_change"),
        _unless_default(pl.when(default > 0, value > 0).then(error)).alias(f"{metric}_change_sem"),
    )


def _mark_least_energy(points: pl.DataFrame) -> pl.DataFrame:
    energy = pl.when("is_sound").then("joules_per_token")
    rank = energy.rank("ordinal").over(*BLOCK)
    return points.with_columns(is_least_energy=(rank == 1).fill_null(False))


def _unless_default(expression: pl.Expr) -> pl.Expr:
    return pl.when(~pl.col("is_default")).then(expression)


def _are_null(names: Iterable[str]) -> Iterable[pl.Expr]:
    return (pl.col(name).is_null() for name in names)
