"""Results as `vllm bench serve` and `vllm bench sweep serve` save them.

`ExportedTrial`s enter. The files of an experiment folder leave: `vllm bench sweep plot` and `plot_pareto` read it.
Next: `export.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from runner.results.exchange.exported_trial import ExportedTrial
from runner.results.exchange.request_times import RequestTimes, describe_times

Files = dict[str, Any]
"""What to write as JSON, by the file's path in the folder."""

_POINT = ("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested")
OWN_KEYS = (
    "trial_id", "task", "repeat", "attempt", "verdicts", "gpu_name", "simulated", *_POINT, "sm_clock_mhz",
    "mem_clock_mhz", "power_limit_w", "energy_j", "energy_uncertainty_j", "mean_power_w", "joules_per_output_token",
    "joules_per_request", "quality", "quality_metric", "quality_stderr",
)  # fmt: skip
"""Columns of `tables.TRIALS` that go beside vLLM's keys, under their own names."""
NOTES = (
    "vllm-bench: a trial keeps the first and the last token of each request, so itls and the median and percentiles of "
    "ITL are left out; mean_itl_ms is exact",
    "vllm-bench: generated_texts are left out; requests/ID.parquet has them",
)


def make_files(trials: Sequence[ExportedTrial]) -> tuple[Files, list[str]]:
    """Return one folder an operating point, as `vllm bench sweep serve` makes them, and notes on what is left out."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        folders.setdefault(_name_folder(trial), []).append(make_result(trial))
    files: Files = {}
    for folder, results in folders.items():
        numbered = [{**result, "run_number": number} for number, result in enumerate(results)]
        files |= {f"{folder}/run={result['run_number']}.json": result for result in numbered}
        files[f"{folder}/summary.json"] = numbered
    return files, list(NOTES)


def make_result(trial: ExportedTrial) -> dict[str, Any]:
    """Return the result of one trial: vLLM's keys with its units, then `OWN_KEYS`."""
    row, times = trial.row, trial.times
    num_tokens = (row["num_prompt_tokens"] or 0) + row["num_output_tokens"]
    return {
        "date": datetime.fromtimestamp(row["start_ns"] * 1e-9, UTC).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "joulesweep",
        "backend": "joulesweep",
        "label": row["task"],
        "model_id": trial.model_id,
        "tokenizer_id": trial.model_id,
        "num_prompts": row["num_requests"],
        "request_rate": "inf" if trial.request_rate_per_s is None else trial.request_rate_per_s,
        "burstiness": row.get("burstiness") or 1.0,
        "max_concurrency": row["concurrency"],
        "duration": row["duration_s"],
        "completed": trial.num_completed,
        "failed": row["num_failed_requests"],
        "total_input_tokens": row["num_prompt_tokens"],
        "total_output_tokens": row["num_output_tokens"],
        "request_throughput": row["requests_per_s"],
        "request_goodput": row.get("good_requests_per_s"),
        "output_throughput": row["output_tokens_per_s"],
        "total_token_throughput": num_tokens / row["duration_s"],
        "input_lens": times.num_prompt_tokens,
        "output_lens": times.num_output_tokens,
        "ttfts": times.ttft_s,
        "latencies": times.latency_s,
        "start_times": times.start_s,
        "errors": times.errors,
        "max_concurrent_requests": times.most_in_flight,
        **dict(describe_latencies(times)),
        **{name: row[name] for name in OWN_KEYS},
        "num_gpus": trial.num_gpus,
    }


def describe_latencies(times: RequestTimes) -> Iterator[tuple[str, float]]:
    """Yield vLLM's statistics of TTFT, TPOT, ITL and E2EL in ms, by name. Unknown ones are left out."""
    for name, values in (("ttft", times.ttft_s), ("tpot", times.tpot_s), ("e2el", times.latency_s)):
        for statistic, value_ms in describe_times(values, 1e3).items():
            yield f"{statistic}_{name}_ms", value_ms
    if times.mean_token_gap_s is not None:
        yield "mean_itl_ms", 1e3 * times.mean_token_gap_s


def name_point(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what an operating point asks for, each with its column's name without `_requested`."""
    for name in _POINT:
        if row[name] is not None:
            yield name.removesuffix("_requested"), f"{row[name]:g}"


def clean_name(text: str) -> str:
    """Return text as a part of a path: only letters, digits, ".", "_", "=" and "-"."""
    return "".join(letter if letter.isalnum() or letter in "._=-" else "-" for letter in text).strip(".-") or "unnamed"


def _name_folder(trial: ExportedTrial) -> str:
    row = trial.row
    load = f"concurrency={row['concurrency']}"
    if trial.request_rate_per_s is not None:
        load = f"request_rate={trial.request_rate_per_s:g}"
    point = [f"{name}={value}" for name, value in name_point(row)] or ["default"]
    # The block's id keeps apart what has one name, such as two models of one label.
    return clean_name("-".join([row["model"], row["task"], load, *point, row["block_id"][:8]]))
