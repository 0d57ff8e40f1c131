"""A feature beside a target, over the prompts of one task: raw, and with the lengths held constant.

Prompts of `prompt_costs.average_prompts` enter; `FeaturePair`s leave. Next: `correlation.py`, which joins them over
tasks and models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.analysis.inputs.coefficients import Array, remove_controls, standardise
from runner.analysis.inputs.prompt_costs import LENGTHS

MIN_PROMPTS = 10
"""With fewer prompts a correlation's interval covers nearly everything. With 10 it is 1.2 wide around 0."""
MIN_DIFFERENT = 5
"""So many prompts must differ from the most frequent value. Otherwise the correlation rests on a few of them. With 5 of
them, one resample in 150 holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturePair:
    """A feature and a target of the same prompts, in standard deviations from their means; [num_prompts] each."""

    sample_ids: tuple[str, ...]
    feature: Array
    target: Array
    num_controls: int = 0
    """Controls fitted to both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureComparison:
    """What one task's prompts say of a feature and a target, or the reason why they say nothing."""

    raw: FeaturePair | None = None
    reason: str | None = None
    partial: FeaturePair | None = None
    """The residuals of both after a fit to the lengths."""
    partial_reason: str | None = None


def compare_feature(
    prompts: pl.DataFrame, feature: str, target: str, why_missing: Mapping[str, str]
) -> FeatureComparison:
    """Set a feature beside a target.

    Args:
        prompts: [num_prompts] rows of one model and task.
        why_missing: by column, the reason why it may be all null.
    """
    known = prompts.drop_nulls([feature, target, *LENGTHS])
    if reason := _why_not(prompts, known, (target, feature), why_missing):
        return FeatureComparison(reason=reason)
    raw = FeaturePair(
        sample_ids=tuple(known["sample_id"]),
        feature=standardise(known[feature].to_numpy()),
        target=standardise(known[target].to_numpy()),
    )
    controls = make_controls(known, [name for name in LENGTHS if name != feature])
    if controls.shape[1] == 0:
        return FeatureComparison(raw=raw, partial=raw)
    rest_of_feature, num_controls = remove_controls(raw.feature, controls)
    rest_of_target, _ = remove_controls(raw.target, controls)
    if known.height - num_controls < MIN_PROMPTS:
        few = f"{known.height} prompts are too few to hold the lengths constant ({num_controls} terms)"
        return FeatureComparison(raw=raw, partial_reason=few)
    for name, rest in ((feature, rest_of_feature), (target, rest_of_target)):
        if rest.std() < 1e-6:
            return FeatureComparison(raw=raw, partial_reason=f"the lengths tell {name} exactly")
    partial = FeaturePair(
        sample_ids=raw.sample_ids,
        feature=rest_of_feature / rest_of_feature.std(),
        target=rest_of_target / rest_of_target.std(),
        num_controls=num_controls,
    )
    return FeatureComparison(raw=raw, partial=partial)


def make_controls(prompts: pl.DataFrame, lengths: Sequence[str]) -> Array:
    """Return the lengths that vary, their squares and their product, each with mean 0: [num_prompts, num_controls].

    A request's work is quadratic in its lengths. Each token passes the weights, and attends to the tokens before it.
    """
    varying = [values for name in lengths if (values := standardise(prompts[name].to_numpy())).any()]
    terms = [*varying, *(a * b for k, a in enumerate(varying) for b in varying[k:])]
    return np.column_stack([term - term.mean() for term in terms]) if terms else np.empty((prompts.height, 0))


def average_pairs(pairs: Sequence[FeaturePair]) -> FeaturePair:
    """Return the mean over several models of one task's prompts, so that a prompt counts once."""
    ids, place = np.unique(np.concatenate([pair.sample_ids for pair in pairs]), return_inverse=True)
    num_models = np.bincount(place)

    def mean(values: Sequence[Array]) -> Array:
        return standardise(np.bincount(place, weights=np.concatenate(values)) / num_models)

    return FeaturePair(
        sample_ids=tuple(str(sample_id) for sample_id in ids),
        feature=mean([pair.feature for pair in pairs]),
        target=mean([pair.target for pair in pairs]),
        num_controls=max(pair.num_controls for pair in pairs),
    )


def count_different(values: pl.Series) -> int:
    """Return how many of some values are not the most frequent one."""
    return len(values) - int(values.value_counts()["count"].to_numpy().max(initial=0))


def _why_not(
    prompts: pl.DataFrame, known: pl.DataFrame, names: Sequence[str], why_missing: Mapping[str, str]
) -> str | None:
    if prompts.is_empty():
        return "no sound trial with a whole prompt"
    for name in names:
        if prompts[name].null_count() == prompts.height:
            return why_missing.get(name, f"{name} is not known")
    if known.height < MIN_PROMPTS:
        return f"{' and '.join(names)} are known of {known.height} prompts: {MIN_PROMPTS} are needed"
    for name in names:
        if not standardise(known[name].to_numpy()).any():
            return f"{name} is the same for every prompt"
        if (num_different := count_different(known[name])) < MIN_DIFFERENT:
            return f"{name} is the same but for {num_different} prompts"
    return None
