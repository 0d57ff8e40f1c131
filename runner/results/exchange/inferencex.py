"""Results as InferenceX aggregates them: one flat object a trial, with power by its schema version 2.

`ExportedTrial`s enter. The files of a `bmk_*` artifact folder leave. Next: `export.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from runner.results.exchange.exported_trial import ExportedTrial, describe_left_out
from runner.results.exchange.request_times import describe_times
from runner.results.exchange.vllm_serve import Files, name_point

POWER_SCHEMA_VERSION = 2
"""In version 2 every joules_per_* counts the energy of the whole deployment."""
FOLDER = "bmk_joulesweep"
"""InferenceX reads the JSON files of folders that begin with bmk_."""
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"}
_LATENCIES = ("ttft", "tpot", "e2el")


def make_files(trials: Sequence[ExportedTrial]) -> tuple[Files, list[str]]:
    """Return a file a trial, and notes on what is unknown or left out."""
    kept = [trial for trial in trials if trial.row["concurrency"] is not None and trial.row["num_prompt_tokens"]]
    files = {f"{FOLDER}/agg_{trial.row['trial_id']}.json": make_row(trial) for trial in kept}
    return files, list(_describe_gaps(trials, kept))


def make_row(trial: ExportedTrial) -> dict[str, Any]:
    """Return one trial. Latencies are in seconds and throughputs per GPU. What is unknown is null or left out."""
    row, times, num_gpus = trial.row, trial.times, trial.num_gpus
    num_prompt_tokens, num_output_tokens = row["num_prompt_tokens"], row["num_output_tokens"]
    per_gpu_s = row["duration_s"] * num_gpus
    engine = trial.model.get("engine") or {}
    values = {"ttft": times.ttft_s, "tpot": times.tpot_s, "e2el": times.latency_s}
    statistics = {name: describe_times(values[name]) for name in _LATENCIES}
    return {
        "hw": trial.gpu.lower(),
        "conc": row["concurrency"],
        "image": None,
        "model": trial.model_id,
        "framework": trial.engine,
        "precision": _PRECISIONS.get(trial.weight_format or "", trial.weight_format),
        "spec_decoding": (engine.get("speculative_config") or {}).get("method", "none"),
        "disagg": False,
        "is_multinode": False,
        "recipe_fingerprint": "-".join(["joulesweep", row["block_id"], *(f"{k}={v}" for k, v in name_point(row))]),
        "isl": round(num_prompt_tokens / max(trial.num_completed, 1)),
        "osl": round(num_output_tokens / max(trial.num_completed, 1)),
        "benchmark_outcome": {
            "status": "passed",
            "requested": row["num_requests"],
            "completed": trial.num_completed,
            "failed": row["num_failed_requests"],
        },
        "num_gpus": num_gpus,
        "tp": engine.get("tensor_parallel_size", 1),
        "pp": engine.get("pipeline_parallel_size", 1),
        "ep": 1,
        "dp_attention": "false",
        "tput_per_gpu": (num_prompt_tokens + num_output_tokens) / per_gpu_s,
        "output_tput_per_gpu": num_output_tokens / per_gpu_s,
        "input_tput_per_gpu": num_prompt_tokens / per_gpu_s,
        **{f"{key}_{name}": value for name, known in statistics.items() for key, value in known.items()},
        **{f"{k}_intvty": 1 / value for k, value in statistics["tpot"].items() if k != "std" and value > 0},
        **_describe_power(trial),
    }


def _describe_power(trial: ExportedTrial) -> dict[str, Any]:
    """Return the power keys. Where the trial has a verdict, its reasons stand instead of the numbers."""
    row, energy_j = trial.row, trial.row["energy_j"]
    reasons = list(row["verdicts"] or [])
    if energy_j is None and "energy_unknown" not in reasons:
        reasons.append("energy_unknown")
    power: dict[str, Any] = {
        "power_metric_schema_version": POWER_SCHEMA_VERSION,
        "power_valid": 0 if reasons else 1,
        "power_invalid_reasons": reasons,
        "power_audit": _audit(trial),
    }
    if reasons:
        return power
    total_w = energy_j / row["duration_s"]
    return power | {
        "avg_power_w": total_w / trial.num_gpus,
        "avg_total_gpu_power_w": total_w,
        "total_gpu_energy_j": energy_j,
        "joules_per_successful_query": energy_j / trial.num_completed,
        "joules_per_input_token": energy_j / row["num_prompt_tokens"],
        "joules_per_output_token": energy_j / row["num_output_tokens"],
        "joules_per_total_token": energy_j / (row["num_prompt_tokens"] + row["num_output_tokens"]),
    }


def _audit(trial: ExportedTrial) -> dict[str, Any]:
    start_ns, duration_s = trial.row["start_ns"], trial.row["duration_s"]
    observed = trial.power.filter(pl.col("power_w").is_not_null())["gpu_uuid"].drop_nulls().unique().sort().to_list()
    return {
        "source": f"power/{trial.row['trial_id']}.parquet",
        "window_start_unix": start_ns * 1e-9,
        "window_end_unix": start_ns * 1e-9 + duration_s,
        "expected_gpu_count": trial.num_gpus,
        "observed_gpu_count": len(observed),
        "sample_count": trial.row["num_power_samples"],
        "max_sample_gap_s": trial.row["max_power_gap_s"],
        "observed_gpu_ids": observed,
    }


def _describe_gaps(trials: Sequence[ExportedTrial], kept: Sequence[ExportedTrial]) -> Iterator[str]:
    if len(kept) < len(trials):
        reason = "InferenceX needs conc, the requests in flight, and prompt tokens"
        yield describe_left_out(len(trials) - len(kept), reason)
    if not kept:
        return
    if any(trial.row["simulated"] for trial in kept):
        yield "inferencex: hw begins with simulated-, which its reader refuses: these are not measurements"
    if any(trial.weight_format is None for trial in kept):
        yield "inferencex: precision is null where the sweep file names neither dtype nor quantization"
    if any(len(set(t.times.num_prompt_tokens)) > 1 or len(set(t.times.num_output_tokens)) > 1 for t in kept):
        yield "inferencex: isl and osl are mean lengths where the lengths of requests differ"
    yield "inferencex: recipe_fingerprint tells clocks apart, since the format has no key for them; image is null"
    yield "inferencex: its reader takes only models that it knows, by their Hugging Face id"
