"""Everything that is said of a run, worked out once: for the terminal, the page, the JSON and the CSV alike.

Rows of trials enter, with a way to read what stands behind them; a `Study` leaves. Next: display.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import polars as pl

from runner.analysis.advice.common_samples import COMMON_QUALITY, compare_on_common_samples
from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.mixed_load import recommend_for_all
from runner.analysis.advice.model_comparison import compare_concurrencies, compare_models
from runner.analysis.advice.pareto import find_front
from runner.analysis.advice.recommendation import recommend
from runner.analysis.advice.routing import ROUTES, bound_routing
from runner.analysis.inputs.correlation import CORRELATIONS, correlate
from runner.analysis.run.operating_points import BLOCK, POINT
from runner.analysis.run.summary import count_failures, count_verdicts, summarise_operating_points
from runner.results.tables import SAMPLES

NUM_RESAMPLES = 300
"""Behind each interval of a correlation: they are read to one digit, and a report should not take a minute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What a run says. Each frame's columns are described where it is made."""

    trials: pl.DataFrame
    limits: Limits
    points: pl.DataFrame
    """`operating_points.OPERATING_POINTS`"""
    recommendations: pl.DataFrame
    """`recommendation.RECOMMENDATIONS`"""
    mixed_loads: pl.DataFrame
    """`mixed_load.MIXED_LOADS`"""
    models: pl.DataFrame
    """`models.MODEL_COMPARISONS`"""
    concurrencies: pl.DataFrame
    """`models.CONCURRENCY_COMPARISONS`, each at its recommended point"""
    front: pl.DataFrame
    """`pareto.PARETO_POINTS`"""
    verdicts: pl.DataFrame
    failures: pl.DataFrame
    routes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ROUTES))
    """`routing.ROUTES`"""
    common_quality: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COMMON_QUALITY))
    """`common_samples.COMMON_QUALITY`; of the tasks of which a prompt was cut to fit one of several models"""
    correlations: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CORRELATIONS))
    """`correlation.CORRELATIONS`; empty unless requests' own energies were measured"""

    def tables(self) -> dict[str, pl.DataFrame]:
        """Return what a script may want, by name."""
        return {
            "points": self.points,
            "recommendations": self.recommendations,
            "mixed_loads": self.mixed_loads,
            "models": self.models,
            "concurrencies": self.concurrencies,
            "pareto": self.front,
            "routing": self.routes,
            "common_quality": self.common_quality,
            "correlations": self.correlations,
            "verdicts": self.verdicts,
            "failures": self.failures,
        }


def study_trials(trials: pl.DataFrame, limits: Limits = NO_LIMITS) -> Study:
    """Return what trials say by themselves, without their requests.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, completed by `across.complete_trials`.
        limits: what a recommended point must keep.
    """
    points = summarise_operating_points(trials)
    recommendations = recommend(points, limits)
    stands_for_block = recommendations.filter(goal="energy").filter(pl.col("conclusion") != "none")
    chosen = points.join(stands_for_block.select(*BLOCK, *POINT), on=[*BLOCK, *POINT], how="semi", nulls_equal=True)
    return Study(
        trials=trials,
        limits=limits,
        points=points,
        recommendations=recommendations,
        mixed_loads=recommend_for_all(points, limits),
        models=compare_models(points),
        concurrencies=compare_concurrencies(chosen),
        front=find_front(points),
        verdicts=count_verdicts(trials),
        failures=count_failures(trials),
    )


def study_requests(
    study: Study,
    samples: pl.DataFrame,
    scan_requests: Callable[[Collection[str]], pl.LazyFrame],
) -> Study:
    """Return a study with what its trials' requests say: of models on samples that fit them all, of routers, of inputs.

    Args:
        samples: [num_samples] rows of `tables.SAMPLES`.
        scan_requests: returns rows of `tables.REQUESTS` of several trials, not yet read.
    """
    return replace(
        study,
        routes=bound_routing(study.trials, scan_requests),
        common_quality=_compare_where_cut(study.trials, scan_requests),
        correlations=_correlate_measured(study.trials, samples, scan_requests),
    )


def _compare_where_cut(trials: pl.DataFrame, scan_requests: Callable[[Collection[str]], pl.LazyFrame]) -> pl.DataFrame:
    # The words are the same at every clock but for rounding: one trial of each model says enough.
    answered = trials.filter(pl.col("status") == "ok", pl.col("phase_role").is_null()).sort("start_ns")
    is_cut = (pl.col("num_truncated_requests").fill_null(0) > 0).any() & (pl.col("model").n_unique() > 1)
    chosen = answered.filter(is_cut.over("task")).unique(["model", "task"], keep="first", maintain_order=True)
    if chosen.is_empty():
        return pl.DataFrame(schema=COMMON_QUALITY)
    requests = scan_requests(chosen["trial_id"].to_list()).select("trial_id", "sample_id", "truncated", "score")
    return compare_on_common_samples(requests.collect().join(chosen.select("trial_id", "model", "task"), on="trial_id"))


def _correlate_measured(
    trials: pl.DataFrame, samples: pl.DataFrame, scan_requests: Callable[[Collection[str]], pl.LazyFrame]
) -> pl.DataFrame:
    # Only a prompt that is alone on the GPU can be measured; a task's first trial tells whether it was.
    alone = trials.filter(pl.col("concurrency") == 1, pl.col("status") == "ok", pl.col("verdicts").list.len() == 0)
    first = alone.unique(["model", "task"], keep="first", maintain_order=True)
    measured = scan_requests(first["trial_id"].to_list()).filter(energy_method="measured").select("trial_id").unique()
    tasks = first.join(measured.collect(), on="trial_id", how="semi")
    if tasks.is_empty():
        return pl.DataFrame(schema=CORRELATIONS)
    chosen = alone.join(tasks, on=["model", "task"], how="semi")
    requests = scan_requests(chosen["trial_id"].to_list()).drop("text").collect()
    return correlate(requests, samples.select(list(SAMPLES)), chosen, num_resamples=NUM_RESAMPLES)
