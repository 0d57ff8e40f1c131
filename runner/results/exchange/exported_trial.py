"""The trials of a run that another tool can read, with what they all need to know of them.

A run directory enters. `ExportedTrial`s leave, and why the others stay. Next: the formats.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from runner.physics.shape import find_modelled_shape, get_shape, shape_names
from runner.results.exchange.request_times import RequestTimes, read_request_times
from runner.results.run_directory import RunStore


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedTrial:
    """One trial that ended well and generated tokens."""

    row: Mapping[str, Any]
    """Its row of `tables.TRIALS`."""
    times: RequestTimes
    power: pl.DataFrame
    """[num_samples] rows of `tables.POWER`: the trace around its window."""
    model: Mapping[str, Any]
    """Its [[model]] of the sweep file; {} where the sweep file of today does not name it."""
    engine: str
    """What generated: vllm or simulated."""

    @property
    def num_gpus(self) -> int:
        """The GPUs that it ran on."""
        return max(len(self.row["gpu_uuids"] or []), 1)

    @property
    def model_id(self) -> str:
        """The model's Hugging Face id, folder or shape."""
        return str(self.model.get("id") or self.row["model"])

    @property
    def num_completed(self) -> int:
        """Requests that did not fail."""
        return int(self.row["num_requests"] - self.row["num_failed_requests"])

    @property
    def request_rate_per_s(self) -> float | None:
        """The rate of an open loop; None for a closed loop."""
        rate = self.row.get("request_rate_per_s_requested")
        return None if rate is None else float(rate)

    @property
    def gpu(self) -> str:
        """The GPU's short name, e.g. "H200" or "GeForce-RTX-5090", with "SIMULATED-" before that of a simulated one."""
        words = [word for word in str(self.row["gpu_name"] or "unknown").split() if word.lower() != "nvidia"]
        words = [word for word in words if word.lower() not in ("simulated", "(simulated)")] or ["unknown"]
        is_consumer = words[0].lower() in ("geforce", "rtx", "quadro", "titan")
        name = "-".join(words) if is_consumer else words[0].partition("-")[0]
        return f"SIMULATED-{name}" if self.row["simulated"] else name

    @property
    def weight_format(self) -> str | None:
        """The quantization or dtype that the sweep file asks for; None where it leaves the choice to the engine.

        None on a simulated GPU too: its seconds and joules are those of another shape.
        """
        engine: Mapping[str, Any] = self.model.get("engine") or {}
        named = engine.get("quantization") or engine.get("dtype")
        return None if named in (None, "auto") or self.row["simulated"] else str(named)

    @property
    def num_parameters(self) -> int | None:
        """The weights of the model whose seconds and joules these are; None where its shape is not one of ours."""
        name = self.model_id.rpartition("/")[2].lower()
        if self.row["simulated"]:
            name = find_modelled_shape(self.model_id, self.model.get("twin"))
        return get_shape(name).num_parameters if name in shape_names() else None


def read_exported_trials(store: RunStore) -> tuple[list[ExportedTrial], list[str]]:
    """Return the trials of a run that generated tokens, in order of start, and why others are left out."""
    manifest = store.read_manifest() or {}
    models = {str(model.get("label") or model["id"]): model for model in manifest.get("sweep", {}).get("model", [])}
    engine = str(manifest.get("options", {}).get("engine") or "vllm")
    left_out: Counter[str] = Counter()
    trials = []
    for row in store.read_trials(store.planned_trial_ids()).iter_rows(named=True):
        reasons = list(_find_reasons(row))
        if reasons:
            left_out[reasons[0]] += 1
            continue
        trials.append(
            ExportedTrial(
                row=row,
                times=read_request_times(store.read_requests(row["trial_id"]), row["start_ns"]),
                power=store.read_power(row["trial_id"]),
                model=models.get(row["model"], {}),
                engine=engine,
            )
        )
    return trials, [describe_left_out(number, reason) for reason, number in left_out.items()]


def describe_left_out(num_trials: int, reason: str) -> str:
    """Say that trials are left out, and why."""
    return f"{num_trials:,} trial{' is' if num_trials == 1 else 's are'} left out: {reason}"


def _find_reasons(row: Mapping[str, Any]) -> Iterator[str]:
    if row["status"] != "ok":
        yield "failed"
    if row["request_kind"] != "generate":
        yield "log-likelihoods, which generate no token"
    if row["phase_role"] is not None:
        yield "paired trials of other lengths"
    if row["duration_s"] is None or row["start_ns"] is None or row["num_output_tokens"] is None:
        yield "no window and no requests are known, as in an imported table"
