"""The most that a router between models could save, if it sent each document to the cheapest model that answers as
well.

Requests of several models on the same documents enter, `ROUTES` leave. The saving is a bound and not a forecast: this
router knows every score beforehand and costs nothing (docs/recommendation.md). Next: study.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.analysis.run.intervals import CONFIDENCE
from runner.analysis.run.operating_points import POINT
from runner.results.tables import TRIALS
from runner.spec.load import LOAD_COLUMNS

_GROUP = ("task", "request_kind", *LOAD_COLUMNS)
_COLUMNS = ("trial_id", "round", "sample_id", "score", "energy_j", "energy_method", "truncated")
MAX_TRIALS = 3
"""Of each model. The scores of one trial are enough, and energies vary little from one trial to the next."""
MIN_SAMPLES = 10
"""With fewer samples the interval of the share covers nearly everything."""
NUM_RESAMPLES = 1000

ROUTES: dict[str, pl.DataType] = {
    **{name: TRIALS[name] for name in _GROUP},
    "reference_model": pl.String(),
    "models": pl.List(pl.String()),
    "shares": pl.List(pl.Float64()),
    "num_samples": pl.Int64(),
    "smaller_suffices": pl.Float64(),
    "smaller_suffices_low": pl.Float64(),
    "smaller_suffices_high": pl.Float64(),
    "reference_joules_per_sample": pl.Float64(),
    "routed_joules_per_sample": pl.Float64(),
    "saving": pl.Float64(),
    "saving_low": pl.Float64(),
    "saving_high": pl.Float64(),
    "reference_score": pl.Float64(),
    "routed_score": pl.Float64(),
    "energy_method": pl.String(),
}
"""What `bound_routing` returns: one row for each task and load that several models answered at the default clock.

reference_model: the model with the best mean score; of equals, the one that needs the least energy.
models, shares: every model, by its energy, and the share of the samples that the router sends to it.
smaller_suffices: share of the samples on which a model with less mean energy scores as well as the reference, or
better.
saving: the energy that the router saves compared with sending every sample to the reference, as a fraction.
*_low, *_high: 95 % interval, by resampling the samples.
energy_method: measured, or attributed where a request's energy is a share of what all requests in flight cost.
"""


def bound_routing(
    trials: pl.DataFrame, scan_requests: Callable[[Collection[str]], pl.LazyFrame], *, seed: int = 0
) -> pl.DataFrame:
    """Bound what an ideal router between models would save.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
        scan_requests: returns rows of `tables.REQUESTS` of several trials, not yet read.
        seed: of the resampling.
    Returns: rows of `ROUTES`. Only samples count that every model was asked and that were cut for none.
    """
    is_default = pl.all_horizontal(pl.col(name).is_null() for name in POINT)
    sound = trials.filter(
        (pl.col("status") == "ok") & (pl.col("verdicts").list.len() == 0) & pl.col("phase_role").is_null() & is_default,
        pl.col("quality").is_not_null(),
    )
    rows = []
    for key, group in sound.group_by(*_GROUP, maintain_order=True):
        if group["model"].n_unique() > 1:
            chosen = group.sort("start_ns").group_by("model", maintain_order=True).head(MAX_TRIALS)
            rows += _bound(dict(zip(_GROUP, key, strict=True)), _read_samples(chosen, scan_requests), chosen, seed)
    return pl.DataFrame(rows, schema=ROUTES).sort(*_GROUP)


def _read_samples(trials: pl.DataFrame, scan_requests: Callable[[Collection[str]], pl.LazyFrame]) -> pl.DataFrame:
    """Return each model's score and energy for each sample: its requests summed, its rounds and trials averaged."""
    requests = scan_requests(trials["trial_id"].to_list()).select(_COLUMNS).collect()
    return (
        requests.join(trials.select("trial_id", "model"), on="trial_id")
        .group_by("model", "sample_id", "trial_id", "round")
        .agg(
            pl.col("score").first(),
            energy_j=pl.when(pl.col("energy_j").is_not_null().all()).then(pl.col("energy_j").sum()),
            energy_method=pl.col("energy_method").drop_nulls().first(),
            is_truncated=pl.col("truncated").fill_null(value=False).any(),
        )
        .group_by("model", "sample_id")
        .agg(
            pl.col("score", "energy_j").mean(),
            pl.col("energy_method").drop_nulls().first(),
            pl.col("is_truncated").any(),
        )
        .filter(~pl.col("is_truncated"))
        .drop_nulls(["score", "energy_j"])
    )


def _bound(key: dict[str, Any], samples: pl.DataFrame, trials: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Return one row of `ROUTES`, or none where all models together answered too few samples."""
    models = samples.group_by("model").agg(pl.col("energy_j").mean()).sort("energy_j")["model"].to_list()
    wide = samples.pivot("model", index="sample_id", values=["score", "energy_j"]).drop_nulls().sort("sample_id")
    if len(models) < 2 or wide.height < MIN_SAMPLES:
        return []
    higher_is_better = trials["quality_higher_is_better"].fill_null(value=True).all()
    scores = wide.select(f"score_{model}" for model in models).to_numpy()
    energy_j = wide.select(f"energy_j_{model}" for model in models).to_numpy()
    merit = scores if higher_is_better else -scores
    reference = int(np.argmax(merit.mean(axis=0)))  # the first of equals, which needs the least energy
    suffices = merit >= merit[:, [reference]]
    # A model after the reference needs more energy in the mean, so that nothing is sent to it.
    routed = np.argmax(suffices[:, : reference + 1], axis=1)
    rows = np.arange(wide.height)
    spent_j, reference_j = energy_j[rows, routed], energy_j[:, reference]
    smaller = (routed < reference).astype(float)
    shares, savings = _resample(smaller, spent_j, reference_j, seed)
    return [
        key
        | {
            "reference_model": models[reference],
            "models": models,
            "shares": [float((routed == place).mean()) for place in range(len(models))],
            "num_samples": wide.height,
            "smaller_suffices": float(smaller.mean()),
            "smaller_suffices_low": shares[0],
            "smaller_suffices_high": shares[1],
            "reference_joules_per_sample": float(reference_j.mean()),
            "routed_joules_per_sample": float(spent_j.mean()),
            "saving": float(1 - spent_j.sum() / reference_j.sum()),
            "saving_low": savings[0],
            "saving_high": savings[1],
            "reference_score": float(scores[:, reference].mean()),
            "routed_score": float(scores[rows, routed].mean()),
            "energy_method": "measured" if (samples["energy_method"] == "measured").all() else "attributed",
        }
    ]


def _resample(
    smaller: NDArray[np.float64], spent_j: NDArray[np.float64], reference_j: NDArray[np.float64], seed: int
) -> tuple[list[float], list[float]]:
    """Return the intervals of the share and of the saving, over samples drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(smaller), len(smaller)) for _ in range(NUM_RESAMPLES)]
    edges = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    shares = np.quantile([smaller[places].mean() for places in drawn], edges)
    savings = np.quantile([1 - spent_j[places].sum() / reference_j[places].sum() for places in drawn], edges)
    return shares.tolist(), savings.tolist()
