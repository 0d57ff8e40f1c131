"""From trials to operating points: repeats averaged, each point compared with its block's default clock, how surely.

Rows of `tables.TRIALS` enter; one row a block and operating point leaves (`OPERATING_POINTS`). The terminal report
formats it, `sweep report --json` prints it. Next: display.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

from runner.analysis.intervals import Array, Sample, compare_with_default, level_half_width

BLOCK = ("block_id", "model", "task", "request_kind", "concurrency")
POINT = ("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested")
ENERGY_METRICS = ("joules_per_token", "joules_per_request", "energy_delay_product_js", "mean_power_w")
METRICS = (
    *ENERGY_METRICS,
    "output_tokens_per_s",
    "requests_per_s",
    "latency_s_p50",
    "ttft_s_p50",
    "tpot_s_p50",
)
INTERVAL = ("_low", "_high", "_change", "_change_low", "_change_high")
"""What each metric leaves beside its mean."""
PHASES = tuple(f"joules_per_{phase}_token{bound}" for phase in ("prefill", "decode") for bound in ("", "_low", "_high"))
_ENERGY = METRICS.index("joules_per_token")

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
    "default_is_on_same_board": pl.Boolean(),
    "interval_reason": pl.String(),
    "is_least_energy": pl.Boolean(),
    # means over the averaged trials, and how they compare with the default clock
    "sm_clock_mhz": pl.Float64(),
    "mem_clock_mhz": pl.Float64(),
    "throttled_fraction": pl.Float64(),
    "token_kind": pl.String(),
    "energy_j": pl.Float64(),
    "energy_uncertainty_j": pl.Float64(),
    **{f"{metric}{suffix}": pl.Float64() for metric in METRICS for suffix in ("", *INTERVAL)},
    **{name: pl.Float64() for name in PHASES},
    "phase_method": pl.String(),
    "phase_reason": pl.String(),
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
is_least_energy: the sound point of its block that needs the least joules per token (of equals, the first row): by
    joules_per_token_change where every sound point has one, else by joules_per_token.
token_kind: "output" for generate; "prompt" for loglikelihood, which generates nothing.
gpu_uuids: the boards of these trials; more than one where a block went on elsewhere after its board was lost.
*_low, *_high: 95 % interval of the mean over the averaged trials; null where `interval_reason` says why.
*_change: fraction by which this point differs from the default clock (-0.23: 23 % less), the mean over pairs: each
    trial with the block's default-clock trials before and after it (`intervals.compare_with_default`), so that it may
    differ in the last digit from the ratio of two means. `_change_low` and `_change_high` are its 95 % interval, null
    on the default row itself. Where `default_is_on_same_board` is false it compares two boards and is widened.
energy_j, energy_uncertainty_j: means over the averaged trials, not of their sum.
joules_per_prefill_token, joules_per_decode_token: means over the averaged trials, bounds too, which overstates them.
quality_stderr: the score's own standard error over documents. Repeats answer the same documents, so it is not divided
    by their number.
quality_difference: score minus the default row's, in the metric's own unit. Its stderr treats the two as independent;
    as both answer the same documents, it is an upper bound.
"""


def summarise_operating_points(trials: pl.DataFrame) -> pl.DataFrame:
    """Average repeats and compare every operating point with its block's default clock.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, in any order; companions made to tell phases apart are no
            operating points and are passed over.
    Returns: [num_blocks x num_points] rows of `OPERATING_POINTS`: by model, task and concurrency; inside a block the
        default first, then memory clock, power limit and SM clock, highest first.
    """
    trials = _mark_averaged(trials.filter(pl.col("phase_role").is_null()))
    points = _average_trials(trials).join(
        _estimate_intervals(trials), on=[*BLOCK, *POINT], how="left", nulls_equal=True
    )
    reason = pl.when(num_averaged=0).then(pl.lit("no trial finished")).otherwise("interval_reason")
    points = _compare_quality(points.with_columns(interval_reason=reason)).sort(
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
    means = (
        *METRICS, *PHASES, "energy_j", "energy_uncertainty_j", "sm_clock_mhz", "mem_clock_mhz", "throttled_fraction",
        "quality", "quality_stderr", "output_agreement", "output_agreement_default",
    )  # fmt: skip
    firsts = (
        "quality_metric", "quality_higher_is_better", "quality_reason", "quality_chance", "gpu_name",
        "phase_method", "phase_reason",
    )  # fmt: skip
    return trials.group_by(*BLOCK, *POINT).agg(
        *(pl.col(name).filter(averaged).mean() for name in means),
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


def _estimate_intervals(trials: pl.DataFrame) -> pl.DataFrame:
    """Return, for each block and point with averaged trials, the columns of `INTERVAL` and what they rest on."""
    averaged = trials.filter("is_averaged")
    suffixed = (f"{metric}{suffix}" for metric in METRICS for suffix in INTERVAL)
    names = (*BLOCK, *POINT, *suffixed, "default_is_on_same_board", "interval_reason")
    schema = {name: OPERATING_POINTS[name] for name in names}
    rows = [row for block in averaged.partition_by(*BLOCK) for row in _estimate_block(block)]
    return pl.DataFrame(rows, schema=schema).with_columns(pl.selectors.float().fill_nan(None))


def _estimate_block(block: pl.DataFrame) -> Iterator[dict[str, Any]]:
    sample = _sample(block)
    is_energy = np.array([metric in ENERGY_METRICS for metric in METRICS])
    default = sample.take(block.select(pl.all_horizontal(_are_null(POINT))).to_series().to_numpy())
    for key, group in block.with_row_index("row").group_by(*POINT):
        trials = sample.take(group["row"].to_numpy())
        is_default = all(value is None for value in key)
        mean = _array(group.select(METRICS).mean())[0]
        level = level_half_width(trials, default, is_energy)
        columns = {"_low": mean * np.exp(-level), "_high": mean * np.exp(level)}
        row = dict(zip((*BLOCK, *POINT), (*block.select(BLOCK).row(0), *key), strict=True))
        if is_default:
            columns["_change"] = np.where(mean > 0, 0.0, np.nan)
        elif len(default.time_s):
            change = compare_with_default(trials, default, is_energy)
            columns["_change"] = np.expm1(change.log_ratio)
            columns["_change_low"] = np.expm1(change.log_ratio - change.half_width)
            columns["_change_high"] = np.expm1(change.log_ratio + change.half_width)
            row["default_is_on_same_board"] = change.on_same_board
        bound = columns.get("_low" if is_default else "_change_low")
        if bound is None or np.isnan(bound[_ENERGY]):
            row["interval_reason"] = _explain_missing(trials, default, is_default=is_default)
        yield row | {f"{m}{suffix}": values[i] for suffix, values in columns.items() for i, m in enumerate(METRICS)}


def _explain_missing(trials: Sample, default: Sample, *, is_default: bool) -> str:
    if np.isnan(trials.logs[:, _ENERGY]).all():
        return "no energy was read"
    if is_default:
        return "one default-clock trial alone shows no spread"
    num_default = int((~np.isnan(default.logs[:, _ENERGY])).sum())
    if num_default == 0:
        return "no default-clock trial of this block to compare with"
    return f"too few trials on one board to show a spread ({len(trials.time_s)} here, {num_default} at the default)"


def _sample(block: pl.DataFrame) -> Sample:
    middle_ns = pl.col("start_ns") - pl.col("start_ns").min() + pl.col("duration_s") * 0.5e9
    positive = [pl.when(pl.col(metric) > 0).then(metric).log() for metric in METRICS]
    uncertainty = pl.when(pl.col("energy_j") > 0).then(pl.col("energy_uncertainty_j") / pl.col("energy_j"))
    return Sample(
        time_s=_array(block.select(middle_ns * 1e-9))[:, 0],
        logs=_array(block.select(positive)),
        energy_uncertainty=_array(block.select(uncertainty))[:, 0],
        board=block["gpu_uuids"].list.join(" ").fill_null("").rank("dense").to_numpy().astype(np.int64),
    )


def _array(frame: pl.DataFrame) -> Array:
    return frame.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _compare_quality(points: pl.DataFrame) -> pl.DataFrame:
    points = points.with_columns(is_default=pl.all_horizontal(_are_null(POINT)))
    compared = ("quality", "quality_stderr", "is_sound")
    default = points.filter("is_default").select(*BLOCK, *(pl.col(name).alias(f"{name}@0") for name in compared))
    stderr = (pl.col("quality_stderr") ** 2 + pl.col("quality_stderr@0") ** 2).sqrt()
    return points.join(default, on=BLOCK, how="left", nulls_equal=True).with_columns(
        pl.col("is_sound@0").alias("default_is_sound"),
        quality_difference=pl.col("quality") - pl.col("quality@0"),
        quality_difference_stderr=pl.when(~pl.col("is_default")).then(stderr),
    )


def _mark_least_energy(points: pl.DataFrame) -> pl.DataFrame:
    """By the change, which no drift and no board touches, where every sound point has one; else by the mean."""
    change, mean = (pl.when("is_sound").then(name) for name in ("joules_per_token_change", "joules_per_token"))
    all_have_one = (change.is_not_null() | mean.is_null()).all() & pl.col("default_is_sound").all()
    rank = pl.when(all_have_one.over(*BLOCK)).then(change).otherwise(mean).rank("ordinal").over(*BLOCK)
    return points.with_columns(is_least_energy=(rank == 1).fill_null(False))


def _are_null(names: Iterable[str]) -> Iterable[pl.Expr]:
    return (pl.col(name).is_null() for name in names)
