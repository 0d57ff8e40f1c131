"""A study with everything in it: two models, two tasks, 1 and 16 in flight, scores, verdicts, failures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.routing import ROUTES
from runner.analysis.inputs.correlation import CORRELATIONS
from runner.analysis.study import Study, study_trials
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS
from tests.analysis.trial_rows import block, frame, trial

CHANGES = {1500: (0.85, 1.02), 990: (0.80, 1.10), 345: (1.20, 2.00)}
MANIFEST = {
    "sweep": {"name": "clocks"},
    "versions": {"joulesweep": "0.1.0"},
    "gpus": [{"name": "NVIDIA H200", "uuid": "GPU-a", "driver_version": "580"}],
    "runs": [{"start": "2026-11-23", "end": "2026-11-24", "command": "sweep run clocks.toml"}],
}


def make_trials(*, simulated: bool = True) -> pl.DataFrame:
    """Two models at 1 and 16 in flight; the smaller one also scores a task that generates nothing."""
    rows: list[dict[str, Any]] = []
    for model, quality in (("org/small", 0.6), ("org/large", 0.7)):
        for concurrency in (1, 16):
            scored = {"quality": quality, "quality_stderr": 0.02, "quality_metric": "exact_match"}
            scored |= {"output_agreement": 0.99, "output_agreement_default": 1.0}
            block_id = f"{model}{concurrency}"
            rows += block(CHANGES, model=model, concurrency=concurrency, block_id=block_id, **scored)
    cloze = {"model": "org/small", "task": "cloze", "block_id": "cloze", "request_kind": "loglikelihood"}
    rows += [row | {"joules_per_prompt_token": row["joules_per_output_token"]} for row in block(CHANGES, **cloze)]
    rows.append(trial(750, 0.1, verdicts=["clock_not_held"], block_id="org/small1", model="org/small", concurrency=1))
    rows.append(
        trial(
            750, None, status="failed", error="out of memory", block_id="org/small1", model="org/small", concurrency=1
        )
    )
    return frame(*(row | {"simulated": simulated} for row in rows))


def make_study(limits: Limits = NO_LIMITS, *, simulated: bool = True) -> Study:
    """The study of `make_trials`, with a route and correlations."""
    route = {
        "task": "qa", "request_kind": "generate", "concurrency": 16, "reference_model": "org/large",
        "models": ["org/small", "org/large"], "shares": [0.7, 0.3], "num_samples": 200, "smaller_suffices": 0.7,
        "smaller_suffices_low": 0.63, "smaller_suffices_high": 0.76, "reference_joules_per_sample": 4.0,
        "routed_joules_per_sample": 1.9, "saving": 0.525, "saving_low": 0.47, "saving_high": 0.58,
        "reference_score": 0.7, "routed_score": 0.8, "energy_method": "attributed",
    }  # fmt: skip
    correlations = [
        {"scope": scope, "model": model, "target": target, "feature": feature, "num_prompts": 60, "partial": value}
        | ({} if value is None else {"partial_low": value - 0.1, "partial_high": value + 0.1})
        | ({"partial_q_value": 0.001 if value > 0.5 else 0.4} if value is not None else {"reason": "no digits"})
        for scope, model in (("model", "org/small"), ("model", "org/large"), ("all", None))
        for target in ("energy_j", "latency_s")
        for feature, value in (("num_prompt_tokens", 0.9), ("mtld", -0.1), ("digit_fraction", None))
    ]
    unscored = {"scope": "all", "target": "score", "feature": "mtld", "reason": "no scores"}
    return replace(
        study_trials(make_trials(simulated=simulated), limits),
        routes=pl.DataFrame([route], schema=ROUTES),
        correlations=pl.DataFrame([*correlations, unscored], schema=CORRELATIONS),
    )


def write_run(directory: Path) -> RunStore:
    """Write a run directory with a power trace and the requests of every trial of `make_trials`."""
    store = RunStore(directory)
    for row in make_trials().to_dicts():
        start_ns = row["start_ns"]
        power = [{"time_ns": start_ns + 20_000_000 * i, "power_w": 300.0 + i % 7} for i in range(-50, 550)]
        requests = [{"scheduled_ns": start_ns, "first_token_ns": start_ns + 10**9, "last_token_ns": start_ns + 10**10}]
        store.write_trial(row, pl.DataFrame(requests, schema=REQUESTS), pl.DataFrame(power, schema=POWER))
    return store
