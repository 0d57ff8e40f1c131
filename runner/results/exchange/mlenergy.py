"""Results as the ML.ENERGY benchmark (version 3) saves them: one results.json a trial, in its tree of folders.

`ExportedTrial`s enter. The files of a benchmark root leave: `LLMRuns.from_raw_results` reads it. Next: `export.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from runner.results.exchange.exported_trial import ExportedTrial, describe_left_out
from runner.results.exchange.vllm_serve import Files, clean_name, describe_latencies, make_result, name_point

_AS_VLLM = (
    "date", "endpoint_type", "model_id", "num_prompts", "request_rate", "burstiness", "max_concurrency", "duration",
    "completed", "total_input_tokens", "total_output_tokens", "request_throughput", "output_throughput",
    "total_token_throughput",
)  # fmt: skip
"""The keys that the two formats share."""
_OWN_KEYS = ("trial_id", "repeat", "gpu_name", "simulated", "sm_clock_mhz", "mem_clock_mhz", "power_limit_w")
_STEADY = ("steady_duration_s", "steady_energy_j", "steady_num_output_tokens")
_SUITE = "joulesweep"
NOTES = (
    "mlenergy: itl of a request is its time after the first token as one chunk, which their reader spreads evenly over "
    "the tokens; the single gaps are not known",
    "mlenergy: prompt, output_text and reasoning_output_text are null; requests/ID.parquet has the answers",
    "mlenergy: energy of a request is the steady energy per token times its output tokens, as they define it",
    "mlenergy: their reader counts a run as stable from 20 s of steady state on; give stable_only=False for others",
)


def make_files(trials: Sequence[ExportedTrial]) -> tuple[Files, list[str]]:
    """Return the results and the model configurations that their reader asks for, and notes on what is left out."""
    kept = [trial for trial in trials if _has_all(trial)]
    files: Files = {}
    for trial in kept:
        files[f"{_name_folder(trial)}/results.json"] = make_results(trial)
        folder = f"configs/vllm/{clean_name(trial.row['task'])}/{_name_model(trial)}"
        files[f"{folder}/{trial.gpu}/monolithic.config.yaml"] = _describe_engine(trial)
        if trial.num_parameters is not None:
            files[f"{folder}/model_info.json"] = _describe_model(trial)
    return files, list(_describe_gaps(trials, kept))


def make_results(trial: ExportedTrial) -> dict[str, Any]:
    """Return the results.json of one trial. Energies are joules, times seconds, and latencies in ms where named so."""
    row, shared = trial.row, make_result(trial)
    energy_per_token_j = row["steady_energy_j"] / row["steady_num_output_tokens"]
    return {
        **{name: shared[name] for name in _AS_VLLM},
        "steady_state_duration": row["steady_duration_s"],
        "steady_state_energy": row["steady_energy_j"],
        "steady_state_energy_per_token": energy_per_token_j,
        "steady_state_measurement": _measurement(trial, row["steady_duration_s"], row["steady_energy_j"]),
        "entire_benchmark_measurement": _measurement(trial, row["duration_s"], row["energy_j"]),
        "timeline": _timeline(trial),
        **dict(describe_latencies(trial.times)),
        "results": list(_list_requests(trial, energy_per_token_j)),
        "joulesweep": {
            name: row[name]
            for name in (
                "trial_id",
                "gpu_name",
                "simulated",
                "sm_clock_mhz",
                "mem_clock_mhz",
                "power_limit_w",
                "repeat",
            )
        },
    }


def _has_all(trial: ExportedTrial) -> bool:
    has_steady = all(trial.row[name] for name in _STEADY)
    return has_steady and not trial.row["verdicts"] and trial.row["concurrency"] is not None


def _measurement(trial: ExportedTrial, time_s: float, energy_j: float | None) -> dict[str, Any]:
    """Return a measurement of Zeus. With several GPUs only their sum is known, so that it stands at the first."""
    return {"time": time_s, "gpu_energy": {"0": energy_j}, "cpu_energy": None, "dram_energy": None, "soc_energy": None}


def _timeline(trial: ExportedTrial) -> dict[str, Any]:
    start_s = trial.row["start_ns"] * 1e-9
    edges_s = _find_steady_edges(trial)
    kind = "device_average" if trial.row["power_source"] == "average" else "device_instant"
    return {
        "benchmark_start_time": start_s,
        "benchmark_end_time": start_s + trial.row["duration_s"],
        "steady_state_start_time": None if edges_s is None else start_s + edges_s[0],
        "steady_state_end_time": None if edges_s is None else start_s + edges_s[1],
        "power": {kind: _series(trial, "power_w")},
        "temperature": _series(trial, "temperature_c"),
    }


def _find_steady_edges(trial: ExportedTrial) -> tuple[float, float] | None:
    """Return the edges of the steady part, in seconds from the start of the window; None if the row says otherwise."""
    times, places = trial.times, trial.row["concurrency"]
    known = [
        (start_s + ttft_s, start_s + latency_s)
        for start_s, ttft_s, latency_s in zip(times.start_s, times.ttft_s, times.latency_s, strict=True)
        if start_s is not None and ttft_s is not None and latency_s is not None
    ]
    if len(known) < 2 * places:
        return None
    start_s = max(first_s for first_s, _ in known[:places])
    end_s = sorted(last_s for _, last_s in known)[len(known) - places]
    return (start_s, end_s) if abs(end_s - start_s - trial.row["steady_duration_s"]) < 1e-6 else None


def _series(trial: ExportedTrial, column: str) -> dict[str, list[list[float]]]:
    """Return [time, value] pairs of the trace inside the window, by the GPU's place in the trial; times since 1970."""
    start_ns = trial.row["start_ns"]
    end_ns = start_ns + trial.row["duration_s"] * 1e9
    inside = trial.power.filter(pl.col("time_ns").is_between(start_ns, end_ns), pl.col(column).is_not_null())
    return {
        str(place): [
            [time_ns * 1e-9, value] for time_ns, value in inside.filter(gpu_uuid=uuid).select("time_ns", column).rows()
        ]
        for place, uuid in enumerate(trial.row["gpu_uuids"] or [])
    }


def _list_requests(trial: ExportedTrial, energy_per_token_j: float) -> Iterator[dict[str, Any]]:
    times = trial.times
    columns = (times.errors, times.num_prompt_tokens, times.num_output_tokens, times.ttft_s, times.latency_s)
    for error, num_prompt_tokens, num_output_tokens, ttft_s, latency_s in zip(*columns, strict=True):
        is_known = ttft_s is not None and latency_s is not None
        yield {
            "prompt": None,
            "output_text": None,
            "reasoning_output_text": None,
            "success": not error and is_known,
            "input_len": num_prompt_tokens,
            "output_len": num_output_tokens,
            "latency": latency_s,
            "ttft": ttft_s,
            "itl": [latency_s - ttft_s, *[0.0] * (num_output_tokens - 2)]  # type: ignore[operator]
            if is_known and num_output_tokens > 1
            else [],
            "error": error,
            "energy": energy_per_token_j * num_output_tokens,
        }


def _describe_engine(trial: ExportedTrial) -> dict[str, Any]:
    """Return vLLM's arguments as its configuration file writes them."""
    engine = {"tensor_parallel_size": trial.num_gpus} | dict(trial.model.get("engine") or {})
    return {name.replace("_", "-"): value for name, value in engine.items()}


def _describe_model(trial: ExportedTrial) -> dict[str, Any]:
    billions = (trial.num_parameters or 0) / 1e9
    info = {
        "model_id": trial.model_id,
        "nickname": trial.row["model"],
        "total_parameters_billion": billions,
        "active_parameters_billion": billions,
        "architecture": "Dense",
    }
    return info if trial.weight_format is None else info | {"weight_precision": trial.weight_format}


def _name_model(trial: ExportedTrial) -> str:
    """Return ORGANISATION/MODEL."""
    organisation, _, name = trial.model_id.rstrip("/").rpartition("/")
    return f"{clean_name(organisation.rpartition('/')[2] or 'local')}/{clean_name(name)}"


def _name_folder(trial: ExportedTrial) -> str:
    """Return the folder of a trial. Its last part holds what was set, as NAME+VALUE+NAME+VALUE."""
    row = trial.row
    repeats = {"repeat": row["repeat"], "trial_id": row["trial_id"]}
    config = {"num_gpus": trial.num_gpus, "max_num_seqs": row["concurrency"], **dict(name_point(row)), **repeats}
    parts = [str(part) for pair in config.items() for part in pair]
    task, sku = clean_name(row["task"]), trial.gpu
    place = f"llm/{sku.lower()}/current/run/{_SUITE}/{task}/results/{_name_model(trial)}/{sku}"
    return f"{place}/{'+'.join(parts)}"


def _describe_gaps(trials: Sequence[ExportedTrial], kept: Sequence[ExportedTrial]) -> Iterator[str]:
    if len(kept) < len(trials):
        reason = "ML.ENERGY needs a steady part with its energy, max_num_seqs, and a run without a verdict"
        yield describe_left_out(len(trials) - len(kept), reason)
    if not kept:
        return
    if any(trial.row["simulated"] for trial in kept):
        yield "mlenergy: the GPU's name begins with SIMULATED-: these are not measurements"
    if unknown := sorted({trial.model_id for trial in kept if trial.num_parameters is None}):
        yield (
            f"mlenergy: the number of parameters of {', '.join(unknown)} is not known: their reader needs it as "
            "total_parameters_billion in configs/vllm/TASK/MODEL/model_info.json"
        )
    yield from NOTES
