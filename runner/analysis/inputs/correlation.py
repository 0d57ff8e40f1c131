"""What an input costs: each feature of the prompts compared with their measured energy, their latency and their score.

Rows of requests, samples and trials enter; one row a scope, target and feature leaves (`CORRELATIONS`), and a matrix of
them for a heat map. docs/inputs.md says what is computed and why. Next: study.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.stats import false_discovery_control

from runner.analysis.inputs.coefficients import Coefficient, correlate_ranks, correlate_values
from runner.analysis.inputs.feature_pairs import FeatureComparison, FeaturePair, average_pairs, compare_feature
from runner.analysis.inputs.prompt_costs import FEATURES, TARGETS, average_prompts, explain_missing
from runner.analysis.inputs.regression import regress_prompts

CoefficientName = Literal["pearson", "spearman", "partial"]
COEFFICIENTS: tuple[CoefficientName, ...] = ("pearson", "spearman", "partial")
ALL_MODELS = "all models"

CORRELATIONS: dict[str, pl.DataType] = {
    "scope": pl.String(),
    "model": pl.String(),
    "task": pl.String(),
    "target": pl.String(),
    "feature": pl.String(),
    "num_prompts": pl.Int64(),
    **{
        f"{name}{suffix}": pl.Float64()
        for name in COEFFICIENTS
        for suffix in ("", "_low", "_high", "_p_value", "_q_value")
    },
    "beta": pl.Float64(),
    "beta_low": pl.Float64(),
    "beta_high": pl.Float64(),
    "variance_inflation": pl.Float64(),
    "reason": pl.String(),
    "partial_reason": pl.String(),
    "beta_reason": pl.String(),
}
"""What `correlate` returns. Null means unknown, never 0; the reasons say why.

scope: "task": one model and task; "model": one model over its tasks (task is null); "all": over all models (model and
    task are null). Values are standardised inside each model and task before they are joined. So a difference between
    two models or two tasks never counts as an effect of a prompt.
num_prompts: prompts behind pearson and spearman. The same prompt on several models counts once.
*_low, *_high: 95 % interval, by resampling the prompts.
*_p_value, *_q_value: p for no correlation at all. q is the share of false discoveries among this row and all rows with
    a smaller p, over all rows of the scope (Benjamini & Hochberg 1995).
partial: Pearson's correlation between the residuals of feature and target after a fit to the lengths of prompt and
    output. For one of the two lengths, after a fit to the other.
beta, variance_inflation: of the regression on all features at once, in standard deviations of the target per standard
    deviation of the feature.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scope:
    scope: str
    model: str | None
    task: str | None
    members: tuple[tuple[str, str], ...]
    """The models and tasks that it joins."""


def correlate(
    requests: pl.DataFrame, samples: pl.DataFrame, trials: pl.DataFrame, *, num_resamples: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """Correlate the features of prompts with what the prompts cost and how well they were answered.

    Args:
        requests: [num_requests] rows of `tables.REQUESTS`, of any trials. Only measured energies count.
        samples: [num_samples] rows of `tables.SAMPLES`.
        trials: [num_trials] rows of `tables.TRIALS`.
        num_resamples: behind each interval.
        seed: of the resampling. The same seed gives the same intervals.
    Returns: [num_scopes x num_targets x num_features] rows of `CORRELATIONS`: tasks, then models, then all; targets and
        features in the order of `prompt_costs.TARGETS` and `prompt_costs.FEATURES`.
    """
    prompts = average_prompts(requests, samples, trials)
    reasons = explain_missing(requests, samples, trials)
    tables = {
        (model, task): prompts.filter((pl.col("model") == model) & (pl.col("task") == task)) for model, task in reasons
    }
    comparisons = {
        (*key, target, feature): compare_feature(table, feature, target, reasons[key])
        for key, table in tables.items()
        for target in TARGETS
        for feature in FEATURES
    }
    rows = []
    for scope in _scopes(list(tables)):
        joined = pl.concat([tables[key] for key in scope.members])
        for target in TARGETS:
            betas = regress_prompts(joined, target, num_resamples=num_resamples, seed=seed)
            for feature in FEATURES:
                members = {key: comparisons[*key, target, feature] for key in scope.members}
                rows.append(
                    {"scope": scope.scope, "model": scope.model, "task": scope.task}
                    | {"target": target, "feature": feature}
                    | _describe(members, num_resamples, seed)
                    | asdict(betas[feature])
                )
    return _control_false_discoveries(pl.DataFrame(rows, schema=CORRELATIONS))


def make_heat_map(correlations: pl.DataFrame, target: str, coefficient: CoefficientName = "partial") -> pl.DataFrame:
    """Arrange one target's coefficients as a matrix.

    Args:
        correlations: rows of `CORRELATIONS`.
    Returns: [num_features] rows in the order of `prompt_costs.FEATURES`: feature, a column for each model, and
        `ALL_MODELS`; null where a coefficient is unknown.
    """
    chosen = correlations.filter((pl.col("target") == target) & (pl.col("scope") != "task"))
    named = chosen.with_columns(pl.col("model").fill_null(ALL_MODELS))
    return named.pivot("model", index="feature", values=coefficient, maintain_order=True)


def _scopes(keys: list[tuple[str, str]]) -> Iterator[_Scope]:
    for model, task in keys:
        yield _Scope(scope="task", model=model, task=task, members=((model, task),))
    for model in dict.fromkeys(model for model, _ in keys):
        yield _Scope(scope="model", model=model, task=None, members=tuple(key for key in keys if key[0] == model))
    if keys:
        yield _Scope(scope="all", model=None, task=None, members=tuple(keys))


def _describe(members: Mapping[tuple[str, str], FeatureComparison], num_resamples: int, seed: int) -> dict[str, Any]:
    """Return the columns of one row, without its regression and its q-values."""
    raw = _join({key: member.raw for key, member in members.items()})
    if raw is None:
        return {"reason": _name_reasons(member.reason for member in members.values())}
    x, y, num_fitted = raw
    row: dict[str, Any] = {"num_prompts": len(x)}
    row |= _name("pearson", correlate_values(x, y, num_fitted=num_fitted, num_resamples=num_resamples, seed=seed))
    row |= _name("spearman", correlate_ranks(x, y, num_fitted=num_fitted, num_resamples=num_resamples, seed=seed))
    partial = _join({key: member.partial for key, member in members.items()})
    if partial is None:
        return row | {"partial_reason": _name_reasons(member.partial_reason for member in members.values())}
    x, y, num_fitted = partial
    return row | _name("partial", correlate_values(x, y, num_fitted=num_fitted, num_resamples=num_resamples, seed=seed))


def _join(
    pairs: Mapping[tuple[str, str], FeaturePair | None],
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]], int] | None:
    """Average each task's pairs over models, and join the tasks: feature, target, and how many terms were fitted."""
    by_task = defaultdict(list)
    for (_, task), pair in pairs.items():
        if pair is not None:
            by_task[task].append(pair)
    if not by_task:
        return None
    averaged = [average_pairs(of_task) for of_task in by_task.values()]
    # One mean is part of every correlation. The means of the other tasks were fitted beside the controls.
    num_fitted = len(averaged) - 1 + sum(pair.num_controls for pair in averaged)
    return (
        np.concatenate([pair.feature for pair in averaged]),
        np.concatenate([pair.target for pair in averaged]),
        num_fitted,
    )


def _name(name: str, coefficient: Coefficient) -> dict[str, float | None]:
    return {
        name: coefficient.value,
        f"{name}_low": coefficient.low,
        f"{name}_high": coefficient.high,
        f"{name}_p_value": coefficient.p_value,
    }


def _name_reasons(reasons: Iterator[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or None


def _control_false_discoveries(correlations: pl.DataFrame) -> pl.DataFrame:
    """Add the q-values. Each scope and coefficient is one family of tests, since each is read as one table."""

    def control(p_values: pl.Series) -> pl.Series:
        known = p_values.drop_nulls()
        q_values = iter(false_discovery_control(known.to_numpy()) if len(known) else ())
        return pl.Series([None if p is None else float(next(q_values)) for p in p_values], dtype=pl.Float64)

    return correlations.with_columns(
        pl.col(f"{name}_p_value").map_batches(control, return_dtype=pl.Float64).over("scope").alias(f"{name}_q_value")
        for name in COEFFICIENTS
    )
