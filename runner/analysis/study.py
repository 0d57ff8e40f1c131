"""Everything that is said of a run, computed once for the terminal, the page, JSON and CSV.

Rows of trials enter, with a way to read their requests; a `Study` leaves. Next: display.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import polars as pl

from runner.analysis.advice.common_samples import COMMON_QUALITY, compare_on_common_samples
from runner.analysis.advice.costs import COSTS, compute_costs
from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.mixed_load import recommend_for_all
from runner.analysis.advice.model_comparison import compare_loads, compare_models
from runner.analysis.advice.pareto import find_front
from runner.analysis.advice.rates import FOLLOWING, RATES, choose_by_rate, follow_load
from runner.analysis.advice.recommendation import recommend
from runner.analysis.advice.routing import ROUTES, bound_routing
from runner.analysis.advice.tariff import NO_TARIFF, Tariff
from runner.analysis.inputs.correlation import CORRELATIONS, correlate
from runner.analysis.run.operating_points import BLOCK, POINT
from runner.analysis.run.summary import count_failures, count_verdicts, summarise_operating_points
from runner.results.tables import SAMPLES
from runner.spec.load import SINGLE

NUM_RESAMPLES = 300
"""Behind each interval of a correlation. Readers need one digit of it, and a report should not take a minute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What a run says. The columns of each frame are described in the module that makes it."""

    trials: pl.DataFrame
    limits: Limits
    points: pl.DataFrame
    """`operating_points.OPERATING_POINTS`"""
    recommendations: pl.DataFrame
    """`recommendation.RECOMMENDATIONS`"""
    mixed_loads: pl.DataFrame
    """`mixed_load.MIXED_LOADS`"""
    models: pl.DataFrame
    """`model_comparison.MODEL_COMPARISONS`"""
    concurrencies: pl.DataFrame
    """`model_comparison.LOAD_COMPARISONS`, each load at its recommended operating point"""
    front: pl.DataFrame
    """`pareto.PARETO_POINTS`"""
    verdicts: pl.DataFrame
    failures: pl.DataFrame
    rates: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RATES))
    """`rates.RATES`: the operating point of least energy at each request rate"""
    following: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FOLLOWING))
    """`rates.FOLLOWING`: what following the load saves"""
    routes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ROUTES))
    """`routing.ROUTES`"""
    common_quality: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COMMON_QUALITY))
    """`common_samples.COMMON_QUALITY`, of the tasks in which a prompt was cut to fit one of several models"""
    correlations: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CORRELATIONS))
    """`correlation.CORRELATIONS`; empty unless requests' own energies were measured"""
    tariff: Tariff = NO_TARIFF
    costs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COSTS))
    """`costs.COSTS`, row by row those of `points`; empty without a tariff"""

    def tables(self) -> dict[str, pl.DataFrame]:
        """Return the tables of `sweep report --json` and `--csv`, by name."""
        return {
            "points": self.points,
            "recommendations": self.recommendations,
            "mixed_loads": self.mixed_loads,
            "models": self.models,
            "concurrencies": self.concurrencies,
            "rates": self.rates,
            "following": self.following,
            "pareto": self.front,
            "routing": self.routes,
            "common_quality": self.common_quality,
            "correlations": self.correlations,
            "verdicts": self.verdicts,
            "failures": self.failures,
            "costs": self.costs,
        }


def study_trials(trials: pl.DataFrame, limits: Limits = NO_LIMITS, tariff: Tariff = NO_TARIFF) -> Study:
    """Return what trials say without their requests.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`, completed by `completed_trials.complete_trials`.
        limits: what a recommended operating point must keep.
        tariff: what a kilowatt-hour costs.
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
        concurrencies=compare_loads(chosen),
        front=find_front(points),
        verdicts=count_verdicts(trials),
        failures=count_failures(trials),
        rates=choose_by_rate(points, limits),
        following=follow_load(points, limits),
        tariff=tariff,
        costs=compute_costs(points, tariff),
    )


def study_requests(
    study: Study,
    samples: pl.DataFrame,
    scan_requests: Callable[[Collection[str]], pl.LazyFrame],
) -> Study:
    """Return a study with what requests say: models on samples that fit them all, routing, and what inputs cost.

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
    # Apart from rounding, answers are the same at every clock, so that one trial of each model is enough.
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
    # A prompt's own energy can be measured only where it is alone on the GPU. A task's first trial tells whether it
    # was.
    is_single = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(value)) for name, value in SINGLE.columns().items())
    alone = trials.filter(is_single, pl.col("status") == "ok", pl.col("verdicts").list.len() == 0)
    first = alone.unique(["model", "task"], keep="first", maintain_order=True)
    measured = scan_requests(first["trial_id"].to_list()).filter(energy_method="measured").select("trial_id").unique()
    tasks = first.join(measured.collect(), on="trial_id", how="semi")
    if tasks.is_empty():
        return pl.DataFrame(schema=CORRELATIONS)
    chosen = alone.join(tasks, on=["model", "task"], how="semi")
    requests = scan_requests(chosen["trial_id"].to_list()).drop("text").collect()
    return correlate(requests, samples.select(list(SAMPLES)), chosen, num_resamples=NUM_RESAMPLES)
