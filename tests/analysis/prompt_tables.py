"""Requests, samples and trials made up prompt by prompt, for tests of what an input costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from runner.results.tables import REQUESTS, SAMPLES, TRIALS

Values = Mapping[str, Any]


def make_samples(task: str, num: int, **features: Any) -> pl.DataFrame:
    """[num] prompts of a task."""
    ids = [f"{task}/{k}" for k in range(num)]
    return _fill({"task": [task] * num, "sample_id": ids, **features}, SAMPLES)


def make_trial(trial_id: str, model: str = "small", task: str = "qa", **changes: Any) -> pl.DataFrame:
    """A sound trial."""
    row = {"trial_id": trial_id, "model": model, "task": task, "status": "ok", "verdicts": []}
    return pl.DataFrame([row | changes], schema=TRIALS)


def make_requests(trial_id: str, samples: pl.DataFrame, *, latency_s: Any = None, **columns: Any) -> pl.DataFrame:
    """One request for each prompt; energies are measured unless `energy_method` says otherwise."""
    num = samples.height
    times = {} if latency_s is None else {"queued_ns": [0] * num, "last_token_ns": (1e9 * latency_s).astype(int)}
    methods = {"energy_method": ["measured"] * num} if "energy_j" in columns else {}
    lengths = {"num_prompt_tokens": np.full(num, 100), "num_output_tokens": np.full(num, 10)}
    given = {"trial_id": [trial_id] * num, "sample_id": samples["sample_id"]} | times | methods | lengths | columns
    return _fill(given, REQUESTS)


def _fill(columns: Mapping[str, Sequence[Any] | np.ndarray], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(columns).select(
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name) for name, kind in schema.items()
    )
