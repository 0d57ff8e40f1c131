"""Linear regression of a target on all features at once, over models and tasks, with the lengths held constant.

Prompts of `prompt_costs.average_prompts` enter; a coefficient for each feature leaves, or the reason why it has none.
Next: `correlation.py`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.analysis.inputs.coefficients import Array, regress, remove_controls
from runner.analysis.inputs.feature_pairs import MIN_DIFFERENT, count_different, make_controls
from runner.analysis.inputs.prompt_costs import FEATURES, LENGTHS

PROMPTS_PER_FEATURE = 10
"""The usual least number of observations per predictor (Harrell 2015, Regression Modeling Strategies, 4.4)."""
MAX_INFLATION = 10.0
"""The usual limit. Above it, the other features explain nine tenths of a feature's variance."""
MIN_KNOWN = 0.9
"""Share of the prompts for which a feature must be known. A regression takes only prompts with all features known."""
SAME_LENGTH = ("num_characters", "num_words")
"""The prompt's length in other units. With the tokens held constant little of them is left, and features that divide by
them explain all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beta:
    """A feature's coefficient, or the reason why it has none."""

    beta: float | None = None
    beta_low: float | None = None
    beta_high: float | None = None
    variance_inflation: float | None = None
    beta_reason: str | None = None


def regress_prompts(prompts: pl.DataFrame, target: str, *, num_resamples: int, seed: int) -> dict[str, Beta]:
    """Return each feature's coefficient, in standard deviations of the target per standard deviation of the feature.

    Args:
        prompts: [num_prompts] rows of one or more models and tasks.
    """
    table = _join_models(prompts, target)
    betas = dict.fromkeys(LENGTHS, Beta(beta_reason="held constant"))
    betas |= dict.fromkeys(
        SAME_LENGTH, Beta(beta_reason="the same length as num_prompt_tokens, which is held constant")
    )
    reasons = {name: _why_not(table[name]) for name in FEATURES if name not in betas}
    betas |= {name: Beta(beta_reason=reason) for name, reason in reasons.items() if reason}
    chosen = [name for name, reason in reasons.items() if reason is None]
    if not chosen:
        return betas
    rest, num_fitted = _hold_lengths(table.drop_nulls([*chosen, *LENGTHS]), [*chosen, target])
    num_needed = PROMPTS_PER_FEATURE * len(chosen)
    if len(rest) - num_fitted < num_needed:
        few = f"{len(rest)} prompts: {num_needed + num_fitted} are needed for {len(chosen)} features and the lengths"
        return betas | dict.fromkeys(chosen, Beta(beta_reason=few))
    solved = regress(rest[:, :-1], rest[:, -1], num_fitted=num_fitted, num_resamples=num_resamples, seed=seed)
    for name, beta, low, high, inflation in zip(chosen, *(values.tolist() for values in solved), strict=True):
        if inflation > MAX_INFLATION:
            reason = f"the other features tell it (variance inflation over {MAX_INFLATION:g})"
            betas[name] = Beta(variance_inflation=inflation, beta_reason=reason)
        else:
            betas[name] = Beta(beta=beta, beta_low=low, beta_high=high, variance_inflation=inflation)
    return betas


def _join_models(prompts: pl.DataFrame, target: str) -> pl.DataFrame:
    """Standardise inside each model and task, then average over models: one row for each task and prompt."""
    numbers = (target, *FEATURES)
    return (
        prompts.with_columns(_standardised(name).over("model", "task") for name in numbers)
        .filter((pl.col(target) != 0).any().over("model", "task"))  # leaves out a target that has one value
        .drop_nulls(target)
        .group_by("task", "sample_id", maintain_order=True)
        .agg(pl.col(*numbers).mean())
        .with_columns(_standardised(name).over("task") for name in numbers)
    )


def _hold_lengths(table: pl.DataFrame, names: list[str]) -> tuple[Array, int]:
    """Return the residuals after a fit to the lengths of each task, [num_prompts, num_names], and the terms fitted."""
    parts, num_fitted = [], -1  # one mean is part of every regression
    for task in table.partition_by("task", maintain_order=True):
        values = task.select(names).to_numpy()
        rest, num_controls = remove_controls(values - values.mean(axis=0), make_controls(task, LENGTHS))
        parts.append(rest)
        num_fitted += num_controls + 1
    return (np.concatenate(parts), num_fitted) if parts else (np.empty((0, len(names))), 0)


def _standardised(name: str) -> pl.Expr:
    """In standard deviations from the mean: 0 if all values are the same, null where there is no value."""
    values = pl.col(name)
    spread = values.std(ddof=0)
    standardised = pl.when(spread > 1e-9 * values.abs().max()).then((values - values.mean()) / spread).otherwise(0.0)
    return pl.when(values.is_not_null()).then(standardised)


def _why_not(values: pl.Series) -> str | None:
    num_known = len(values) - values.null_count()
    if num_known < MIN_KNOWN * len(values) or num_known == 0:
        return f"known of {num_known} of {len(values)} prompts"
    if (num_different := count_different(values.drop_nulls())) < MIN_DIFFERENT:
        return "the same for every prompt" if num_different == 0 else f"the same but for {num_different} prompts"
    return None
