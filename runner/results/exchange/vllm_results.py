"""Results of `vllm bench serve` and `vllm bench sweep serve`: their JSON enters, rows of `tables.TRIALS` leave.

docs/exchange.md says which keys are read. Next: `execution/driver/importing.py`.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from runner.results.exchange.imported_rows import POINT, make_trials
from runner.results.exchange.vllm_serve import OWN_KEYS
from runner.results.tables import TRIALS

NO_ENERGY = "vllm bench serve measures no energy"
NO_SCORE = "vllm bench serve scores no answers"
_NEEDED = ("model_id", "duration", "completed", "total_output_tokens", "output_throughput")
_NUMBERS = {
    "duration_s": ("duration", 1.0),
    "num_requests": ("num_prompts", 1.0),
    "num_failed_requests": ("failed", 1.0),
    "num_prompt_tokens": ("total_input_tokens", 1.0),
    "num_output_tokens": ("total_output_tokens", 1.0),
    "requests_per_s": ("request_throughput", 1.0),
    "good_requests_per_s": ("request_goodput", 1.0),
    "output_tokens_per_s": ("output_throughput", 1.0),
    "concurrency": ("max_concurrency", 1.0),
    **{
        f"{ours}_s_{percentile}": (f"{statistic}_{theirs}_ms", 1e-3)
        for ours, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("latency", "e2el"))
        for percentile, statistic in (("p50", "median"), ("p95", "p95"), ("p99", "p99"))
    },
    **{
        name: (name, 1.0)
        for name in (*POINT, "mean_power_w", "energy_j", "energy_uncertainty_j", "joules_per_output_token",
                     "joules_per_request", "quality", "quality_stderr")
    },
}  # fmt: skip
"""Columns of `tables.TRIALS`, each with the key that it comes from and what the key's value is multiplied by. Columns
that this release does not have are left out."""
_RATE = ("request_rate_per_s_requested", "burstiness")
_RATE_KEYS = ("request_rate", "burstiness")
_OTHER_KEYS = frozenset(
    {
        "date", "endpoint_type", "backend", "label", "tokenizer_id", "request_rate", "burstiness", "ramp_up_strategy",
        "ramp_up_start_rps", "ramp_up_end_rps", "total_token_throughput", "max_output_tokens_per_s",
        "max_concurrent_requests", "rtfx", "run_number", "num_gpus", "task", "simulated", *_NEEDED,
    }
)  # fmt: skip
_RESULTS = re.compile(r"_ms$|throughput|goodput|^(spec_decode|diffusion|probe)_")
"""Keys that hold what was measured. Other keys that are not known hold what was set: they tell runs apart."""
_NOT_RESULTS = ("warmup.json", "joulesweep-export.json")


class VllmFileError(ValueError):
    """The file is no result of vLLM. The message names the key, its value and what is allowed."""


def is_vllm_results(path: Path) -> bool:
    """Whether a path is a folder or a JSON file. Published grids are CSV files."""
    if path.is_dir():
        return True
    try:
        return path.read_bytes()[:100].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    except OSError:
        return False


def list_files(path: Path) -> list[Path]:
    """Return the files to read: one file, or the summaries (else the results) of a folder and the folders in it."""
    if not path.is_dir():
        return [path]
    if summaries := sorted(path.rglob("summary.json")):
        return summaries
    names = sorted(path.rglob("*.json"))
    return [p for p in names if p.name not in _NOT_RESULTS and not p.name.endswith((".pytorch.json", ".failure.json"))]


def names_default_clock(path: Path) -> bool:
    """Whether the results tell the default clock from a clock that was asked for, as our own export does."""
    return any("sm_clock_mhz_requested" in result for file in list_files(path) for _, result in _read_objects(file))


def read_vllm_results(path: Path) -> pl.DataFrame:
    """Read results of vLLM's benchmark of a server.

    Args:
        path: a result (--save-result), several in one file (--append-result), a summary.json of `vllm bench sweep`, or
            a folder of them.
    Returns: [num_results] rows of `tables.TRIALS`. Energies are null unless the file holds them, as our own export
        does, or `--metadata mean_power_w=...`.
    Raises: VllmFileError. OSError: a file cannot be read.
    """
    results = [(f"{file}, result {i}", result) for file in list_files(path) for i, result in _read_objects(file)]
    if not results:
        raise VllmFileError(f"{path} holds no result of vllm bench serve: give its JSON file, or the folder of a sweep")
    lines = [_read_line(where, result) | {"line": i} for i, (where, result) in enumerate(results)]
    names = ("line", "model", "task", "gpu_name", "observed_sm_clock_mhz", "simulated", "verdicts", *_RATE, *_NUMBERS)
    schema: dict[str, pl.DataType] = {name: pl.String() for name in ("model", "task", "gpu_name")}
    schema |= {"simulated": pl.Boolean(), "verdicts": pl.List(pl.String())}
    frame = pl.DataFrame(
        [{name: line.get(name) for name in names} for line in lines],
        schema={name: schema.get(name, pl.Float64()) for name in names},
    ).with_columns(pl.col("line").cast(pl.Int64))
    return _complete(make_trials(frame.drop("observed_sm_clock_mhz", "simulated", "verdicts")), frame)


def _complete(trials: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """Add what a published grid does not have: the clock that ran, verdicts, failures, and why values are null."""
    has_energy = pl.col("joules_per_output_token").is_not_null()
    is_failed = pl.col("num_output_tokens") == 0
    return trials.with_columns(
        sm_clock_mhz=pl.coalesce(lines["observed_sm_clock_mhz"], "sm_clock_mhz"),
        simulated=lines["simulated"],
        verdicts=lines["verdicts"],
        energy_source=pl.when(has_energy).then("energy_source"),
        phase_reason=pl.when(~has_energy).then(pl.lit(NO_ENERGY)),
        quality_reason=pl.when(pl.col("quality").is_null()).then(pl.lit(NO_SCORE)),
        status=pl.when(is_failed).then(pl.lit("failed")).otherwise("status"),
        error=pl.when(is_failed).then(pl.lit("no request completed")),
    ).select(pl.col(name).cast(dtype) for name, dtype in TRIALS.items())


def _read_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the results of a file, counted from 1. --append-result writes one object after the other."""
    try:
        text = path.read_bytes().decode("utf-8-sig").strip()
    except FileNotFoundError:
        raise VllmFileError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise VllmFileError(f"{path} is not text in UTF-8 (byte {error.start})") from None
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise VllmFileError(f"{path} is not JSON: {error}") from None
        found += value if isinstance(value, list) else [value]
        place += len(text[place:]) - len(text[place:].lstrip())
    for i, result in enumerate(found, start=1):
        if not isinstance(result, dict):
            raise VllmFileError(f"{path}, result {i} is no object: give what vllm bench serve --save-result writes")
        yield i, result


def _read_line(where: str, result: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [name for name in _NEEDED if result.get(name) is None]:
        raise VllmFileError(
            f"{where}: {', '.join(missing)} is missing: give a result of vllm bench serve for a model that generates"
        )
    # Our own export has the clock that was asked for beside the one that ran. Anyone else names the one asked for.
    asked = {name: result[f"{name}_requested"] for name in POINT if f"{name}_requested" in result}
    line = {
        column: _read_number(where, key, {**result, **asked}.get(key), scale)
        for column, (key, scale) in _NUMBERS.items()
    }
    if line["joules_per_output_token"] is None and line["energy_j"] is not None and line["num_output_tokens"]:
        line["joules_per_output_token"] = line["energy_j"] / line["num_output_tokens"]
    observed = result.get("sm_clock_mhz") if "sm_clock_mhz" in asked else None
    return line | {
        **_read_rate(where, result),
        "model": str(result["model_id"]),
        "task": _name_task(result),
        "gpu_name": str(result.get("gpu_name") or "unknown GPU"),
        "observed_sm_clock_mhz": _read_number(where, "sm_clock_mhz", observed, 1.0),
        "verdicts": [str(code) for code in result.get("verdicts") or []],
        "simulated": str(result.get("simulated", False)).lower() == "true",
    }


def _read_rate(where: str, result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the rate of requests and its burstiness; both are unknown where all requests are sent at once."""
    rate = result.get("request_rate")
    if rate in (None, "inf"):
        return dict.fromkeys(_RATE)
    return dict(zip(_RATE, (_read_number(where, key, result.get(key), 1.0) for key in _RATE_KEYS), strict=True))


def _name_task(result: Mapping[str, Any]) -> str:
    """Name what was asked: the label, the rate of requests, and what else was set in a sweep or as metadata."""
    known = {*_OTHER_KEYS, *OWN_KEYS, *(key for key, _ in _NUMBERS.values())}
    settings = [
        f"{key}={value}"
        for key, value in result.items()
        if key not in known and not _RESULTS.search(key) and isinstance(value, str | int | float)
    ]
    rate = result.get("request_rate")
    # Without a limit on the requests in flight the rate is the load, which has its own columns.
    is_both = rate not in (None, "inf") and result.get("max_concurrency") is not None
    at_rate = [f"{rate} requests/s"] if is_both else []
    return ", ".join([str(result.get("task") or result.get("label") or "vllm bench serve"), *at_rate, *settings])


def _read_number(where: str, key: str, value: object, scale: float) -> float | None:
    """Return a number that is 0 or more, which metadata holds as text; None for null. Raises: VllmFileError."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise VllmFileError(f"{where}: {key} = {value!r} is not allowed: give a number from 0 on")
    return scale * number
