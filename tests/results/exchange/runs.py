"""A run whose numbers are checked by hand: 2 in flight, four requests of 100 tokens in and 11 out, 200 W for 10 s.

A fifth request failed. The steady part is from 1 s to 10 s; 42 of the 44 output tokens fall into it.
"""

from pathlib import Path
from typing import Any

import polars as pl

from runner.results.run_directory import RunStore, open_run
from runner.results.tables import POWER, REQUESTS
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials

START_NS = 1_800_000_000_000_000_000
"""2027-01-15 08:00:00 UTC."""
GPU = "GPU-1a2b"
S = 1_000_000_000


def sweep(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "model": [{"id": "org/llama-3.2-1b", "engine": {"dtype": "bfloat16", "max_model_len": 2048}}],
        "task": [{"name": "synthetic", "num_prompt_tokens": 100, "num_output_tokens": 11, "num_requests": 5}],
        "axes": {"concurrency": [2], "sm_clock": ["default", 1200]},
    } | changes


def requests(trial_id: str) -> pl.DataFrame:
    """Two at a time; the first token after 1 s, the last one after 5 s; the fifth failed."""
    rows = [
        {
            "trial_id": trial_id, "request_id": f"r{i}#0", "round": 0, "sample_id": f"r{i}", "request_kind": "generate",
            "num_prompt_tokens": 100, "num_output_tokens": 11, "queued_ns": START_NS + start_s * S,
            "scheduled_ns": START_NS + start_s * S, "first_token_ns": START_NS + (start_s + 1) * S,
            "last_token_ns": START_NS + (start_s + 5) * S, "error": None if i < 4 else "timed out",
        }
        for i, start_s in enumerate((0, 0, 5, 5, 5))
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=REQUESTS)


def power(watts: float = 200.0) -> pl.DataFrame:
    """From 1 s before the window to 1 s after it, twice a second."""
    rows = [
        {"time_ns": START_NS + i * S // 2, "gpu_uuid": GPU, "power_w": watts, "temperature_c": 40.0}
        for i in range(-2, 23)
    ]
    return pl.DataFrame(rows, schema=POWER)


def row(**changes: Any) -> dict[str, Any]:
    """One trial's row but for what tells trials apart."""
    return {
        "model": "org/llama-3.2-1b", "task": "synthetic-100x11", "request_kind": "generate", "concurrency": 2,
        "repeat": 0, "is_sentinel": False, "attempt": 1, "gpu_uuids": [GPU], "gpu_name": "NVIDIA H200",
        "host": "here", "simulated": False, "status": "ok", "verdicts": [], "start_ns": START_NS, "duration_s": 10.0,
        "sm_clock_mhz": 1980.0, "mem_clock_mhz": 3201.0, "power_limit_w": 700.0, "num_requests": 5,
        "num_failed_requests": 1, "num_truncated_requests": 0, "num_prompt_tokens": 400, "num_output_tokens": 44,
        "energy_j": 2000.0, "energy_uncertainty_j": 10.0, "energy_source": "trace", "power_source": "samples",
        "num_power_samples": 21, "max_power_gap_s": 0.5, "mean_power_w": 200.0, "joules_per_output_token": 2000 / 44,
        "joules_per_request": 500.0, "steady_duration_s": 9.0, "steady_energy_j": 1800.0,
        "steady_num_output_tokens": 42, "output_tokens_per_s": 4.4, "requests_per_s": 0.4, "ttft_s_p50": 1.0,
        "tpot_s_p50": 0.4, "latency_s_p50": 5.0,
    } | changes  # fmt: skip


def write_run(
    directory: Path, *, engine: str = "vllm", document: dict[str, Any] | None = None, **changes: Any
) -> RunStore:
    """Write every trial of the sweep. `changes` are columns of the default clock's trials; the GPU is that of all."""
    document = document or sweep()
    spec = parse_sweep(document)
    manifest = {
        "name": spec.name,
        "sweep": spec.model_dump(mode="json"),
        "options": {"engine": engine, "read_only": False},
        "simulated": bool(changes.get("simulated")),
    }
    gpu = {name: changes[name] for name in ("gpu_name", "simulated") if name in changes}
    with RunStore(directory) as store:
        store.write_manifest(manifest)
        for block in expand_trials(spec, read_only=False):
            for trial in block.trials:
                clock = None if str(trial.requested_point.sm_clock) == "default" else 1200
                own = {"trial_id": trial.trial_id, "block_id": trial.block_id, "sm_clock_mhz_requested": clock}
                own["model"] = trial.model.label
                own |= gpu | ({"sm_clock_mhz": 1200.0} if clock else changes)
                store.write_trial(row(repeat=trial.repeat, **own), requests(trial.trial_id), power())
    return open_run(directory)
