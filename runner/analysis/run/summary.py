"""From trials to operating points: repeats averaged, and each operating point compared with its block's default clock.

Rows of `tables.TRIALS` enter; one row a block and operating point leaves (`OPERATING_POINTS`). The report shows it, and
`sweep report --json` prints it. Next: advice.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from runner.analysis.run.bound_by import find_bound
from runner.analysis.run.intervals import Array, Repeats, compare_with_default, level_half_width
from runner.analysis.run.operating_points import (
    ACTIVITY,
    BLOCK,
    ENERGY_METRICS,
    GOALS,
    METRICS,
    OPERATING_POINTS,
    PHASES,
    POINT,
    SERVICE,
)
from runner.spec.load import LOAD_COLUMNS

_ENERGY = METRICS.index("joules_per_token")
_IS_ENERGY = np.array([metric in ENERGY_METRICS for metric in METRICS])
_BY_BLOCK = ("model", "task", *LOAD_COLUMNS, "block_id")
_BY_POINT = ("is_default", *POINT[1:], POINT[0])
"""The default first, then by memory clock, power limit and SM clock, highest first."""


def summarise_operating_points(trials: pl.DataFrame) -> pl.DataFrame:
    """Average repeats and compare every operating point with its block's default clock.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, in any order. Paired trials are left out.
    Returns: [num_blocks x num_points] rows of `OPERATING_POINTS`: by model, task and load; inside a block the default
        first, then by memory clock, power limit and SM clock, highest first.
    """
    trials = _mark_averaged(trials.filter(pl.col("phase_role").is_null()))
    intervals = _estimate_intervals(trials)
    points = _average_trials(trials).join(intervals, on=[*BLOCK, *POINT], how="left", nulls_equal=True)
    points = points.with_columns(
        *(bound for metric in METRICS for bound in _bounds(metric)),
        *(bound for goal in GOALS for bound in _bounds_if_chosen(goal)),
        is_default=_is_default(),
        bound_by=find_bound(),
        interval_reason=pl.when(num_averaged=0).then(pl.lit("no trial finished")).otherwise("interval_reason"),
    )
    points = _compare_quality(_compare_time(points)).sort(
        *_BY_BLOCK,
        *_BY_POINT,
        descending=[False] * len(_BY_BLOCK) + [True] * len(_BY_POINT),
        nulls_last=False,
    )
    points = points.with_columns(
        is_least_energy=_is_least("joules_per_token"),
        is_least_energy_with_host=_is_least("joules_per_token_with_host"),
    )
    return points.select(pl.col(name).cast(dtype) for name, dtype in OPERATING_POINTS.items())


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
        .with_columns(
            joules_per_token_with_host=pl.col("joules_per_token") * (1 + pl.col("host_energy_j") / pl.col("energy_j")),
            memory_energy_fraction=pl.col("memory_energy_j") / pl.col("energy_j"),
            host_energy_fraction=pl.col("host_energy_j") / pl.col("energy_j"),
            power_capped_fraction=pl.col("throttled_power_s") / pl.col("duration_s"),
        )
        .with_columns(point_is_sound=pl.col("is_sound").any().over(*BLOCK, *POINT))
        .with_columns(is_averaged=pl.col("is_sound") | (pl.col("is_ok") & ~pl.col("point_is_sound")))
    )


def _average_trials(trials: pl.DataFrame) -> pl.DataFrame:
    averaged = pl.col("is_averaged")
    means = (
        *METRICS, *PHASES, *SERVICE, *ACTIVITY, "power_capped_fraction", "memory_energy_fraction",
        "host_energy_fraction", "energy_j", "energy_uncertainty_j", "sm_clock_mhz", "mem_clock_mhz",
        "throttled_fraction", "quality", "quality_stderr", "output_agreement", "output_agreement_default",
    )  # fmt: skip
    firsts = (
        "quality_metric", "quality_higher_is_better", "quality_reason", "quality_chance", "gpu_name",
        "phase_method",
    )  # fmt: skip
    has_phases = pl.col("phase_method").is_not_null()
    return trials.group_by(*BLOCK, *POINT).agg(
        *(pl.col(name).filter(averaged).mean() for name in means),
        *(pl.col(name).drop_nulls().first() for name in firsts),
        pl.col("phase_reason").filter(has_phases | ~has_phases.any()).drop_nulls().first(),
        pl.col("token_kind").first(),
        pl.col("gpu_uuids").explode(empty_as_null=True).drop_nulls().unique().sort(),
        pl.col("simulated").any(),
        pl.col("verdicts").explode(empty_as_null=True).drop_nulls().unique().sort(),
        truncated_fraction=(pl.col("num_truncated_requests") / pl.col("num_requests")).filter(averaged).mean(),
        num_trials=pl.len(),
        num_averaged=averaged.sum(),
        num_with_verdicts=(pl.col("is_ok") & pl.col("has_verdict")).sum(),
        num_failed=(~pl.col("is_ok")).sum(),
        is_sound=pl.col("is_sound").any(),
    )


def _estimate_intervals(trials: pl.DataFrame) -> pl.DataFrame:
    """Return, for each block and point with averaged trials, a row with the columns of `_estimate_point`."""
    averaged = trials.filter("is_averaged").with_row_index("row")
    repeats = _collect_repeats(averaged)
    points = averaged.group_by(*BLOCK, *POINT).agg("row")
    default = points.filter(_is_default()).select(*BLOCK, default_row="row")
    points = points.join(default, on=BLOCK, how="left", nulls_equal=True).with_columns(
        is_default=_is_default(), num_compared=(~_is_default()).sum().over(BLOCK)
    )
    none = np.zeros(0, dtype=np.int64)
    estimates = [
        _estimate_point(
            repeats.take(rows.to_numpy()),
            repeats.take(none if default_rows is None else default_rows.to_numpy()),
            is_default=is_default,
            num_compared=num_compared,
        )
        for rows, default_rows, is_default, num_compared in zip(
            points["row"], points["default_row"], points["is_default"], points["num_compared"], strict=True
        )
    ]
    marks = ("@level", "@ratio", "@ratio_level", "@ratio_level_if_chosen")
    names = [f"{metric}{mark}" for mark in marks for metric in METRICS]
    logs = np.stack([estimate[0] for estimate in estimates]) if estimates else np.zeros((0, len(names)))
    others = {"default_is_on_same_board": pl.Boolean, "interval_reason": pl.String}
    return pl.concat(
        (
            points.select(*BLOCK, *POINT, "num_compared"),
            pl.DataFrame(logs, schema=names).fill_nan(None),
            pl.DataFrame([estimate[1:] for estimate in estimates], schema=others, orient="row"),
        ),
        how="horizontal",
    )


def _estimate_point(
    trials: Repeats, default: Repeats, *, is_default: bool, num_compared: int
) -> tuple[Array, bool | None, str | None]:
    """Compare one operating point with its block's default clock.

    Returns: [4 x num_metrics] half-widths of the means, log ratios to the default clock, their half-widths, and those
        for a chosen operating point; whether both were measured on one GPU; why the energy has no interval, if so.
    """
    level = level_half_width(trials, default, _IS_ENERGY)
    unknown = np.full(len(METRICS), np.nan)
    if is_default or len(default.time_s) == 0:
        is_known = is_default and not np.isnan(level[_ENERGY])
        reason = None if is_known else _explain_missing(trials, default, is_default=is_default)
        ratio = np.zeros_like(level) if is_default else unknown
        return np.concatenate((level, ratio, unknown, unknown)), None, reason
    change = compare_with_default(trials, default, _IS_ENERGY, num_compared=num_compared)
    reason = _explain_missing(trials, default, is_default=False) if np.isnan(change.half_width[_ENERGY]) else None
    logs = np.concatenate((level, change.log_ratio, change.half_width, change.half_width_if_chosen))
    return logs, change.on_same_board, reason


def _explain_missing(trials: Repeats, default: Repeats, *, is_default: bool) -> str:
    if np.isnan(trials.logs[:, _ENERGY]).all():
        return "no energy was read"
    if is_default:
        return "one default-clock trial alone shows no spread"
    num_default = int((~np.isnan(default.logs[:, _ENERGY])).sum())
    if num_default == 0:
        return "no default-clock trial of this block to compare with"
    return f"too few trials on one GPU to show a spread ({len(trials.time_s)} here, {num_default} at the default)"


def _collect_repeats(trials: pl.DataFrame) -> Repeats:
    middle_ns = pl.col("start_ns") - pl.col("start_ns").min() + pl.col("duration_s") * 0.5e9
    positive = [pl.when(pl.col(metric) > 0).then(metric).log() for metric in METRICS]
    uncertainty = pl.when(pl.col("energy_j") > 0).then(pl.col("energy_uncertainty_j") / pl.col("energy_j"))
    return Repeats(
        time_s=_array(trials.select(middle_ns * 1e-9))[:, 0],
        logs=_array(trials.select(positive)),
        energy_uncertainty=_array(trials.select(uncertainty))[:, 0],
        gpu=trials["gpu_uuids"].list.join(" ").fill_null("").rank("dense").to_numpy().astype(np.int64),
    )


def _array(frame: pl.DataFrame) -> Array:
    return frame.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _bounds(metric: str) -> Iterator[pl.Expr]:
    mean, level = pl.col(metric), pl.col(f"{metric}@level")
    ratio, ratio_level = pl.col(f"{metric}@ratio"), pl.col(f"{metric}@ratio_level")
    yield (mean * (-level).exp()).alias(f"{metric}_low")
    yield (mean * level.exp()).alias(f"{metric}_high")
    yield pl.when(mean > 0).then(ratio.exp() - 1).alias(f"{metric}_change")
    yield ((ratio - ratio_level).exp() - 1).alias(f"{metric}_change_low")
    yield ((ratio + ratio_level).exp() - 1).alias(f"{metric}_change_high")


def _bounds_if_chosen(goal: str) -> Iterator[pl.Expr]:
    ratio, level = pl.col(f"{goal}@ratio"), pl.col(f"{goal}@ratio_level_if_chosen")
    yield ((ratio - level).exp() - 1).alias(f"{goal}_chosen_low")
    yield ((ratio + level).exp() - 1).alias(f"{goal}_chosen_high")


def _compare_time(points: pl.DataFrame) -> pl.DataFrame:
    """Add the slowdown: by latency, or by throughput where no latency is known.

    At 1/x of the throughput the same work takes x times as long.
    """

    def slowdown(bound: str, opposite: str) -> pl.Expr:
        by_requests, by_tokens = (
            1 / (1 + pl.col(f"{rate}_change{opposite}")) - 1 for rate in ("requests_per_s", "output_tokens_per_s")
        )
        return (
            pl.when(pl.col("latency_s_p50_change").is_not_null())
            .then(f"latency_s_p50_change{bound}")
            .when(pl.col("requests_per_s_change").is_not_null())
            .then(by_requests)
            .otherwise(by_tokens)
            .alias(f"slowdown{bound}")
        )

    return points.with_columns(slowdown("", ""), slowdown("_low", "_high"), slowdown("_high", "_low"))


def _compare_quality(points: pl.DataFrame) -> pl.DataFrame:
    compared = ("quality", "quality_stderr", "is_sound")
    default = points.filter("is_default").select(*BLOCK, *(pl.col(name).alias(f"{name}@0") for name in compared))
    stderr = (pl.col("quality_stderr") ** 2 + pl.col("quality_stderr@0") ** 2).sqrt()
    return points.join(default, on=BLOCK, how="left", nulls_equal=True).with_columns(
        pl.col("is_sound@0").alias("default_is_sound"),
        quality_difference=pl.col("quality") - pl.col("quality@0"),
        quality_difference_stderr=pl.when(~pl.col("is_default")).then(stderr),
    )


def _is_least(metric: str) -> pl.Expr:
    """Return which is the sound operating point of each block that needs the least joules per token.

    The change ranks them where every sound one has it, since neither drift nor the GPU affects it. Else the mean does.
    """
    change, mean = (pl.when("is_sound").then(name) for name in (f"{metric}_change", metric))
    all_have_one = (change.is_not_null() | mean.is_null()).all() & pl.col("default_is_sound").all()
    rank = pl.when(all_have_one.over(*BLOCK)).then(change).otherwise(mean).rank("ordinal").over(*BLOCK)
    return (rank == 1).fill_null(False)


def _is_default() -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_null() for name in POINT)
