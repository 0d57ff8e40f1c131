"""One trial's row: a `Measurement` and its scores enter, a row of `tables.TRIALS` and the table of requests leave."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from runner.analysis.energy.account import account_energy
from runner.analysis.energy.attribution import Attribution
from runner.analysis.energy.trace import EdgeNotCoveredError, TraceGapError, estimate_trace
from runner.analysis.window.gpu_state import (
    POWER_CAP_BIT,
    THERMAL_BITS,
    describe_gpu_state,
    event_fraction,
    find_foreign_processes,
    readings_in_window,
)
from runner.analysis.window.phase_regression import regress_phases
from runner.analysis.window.phases import describe_phases
from runner.analysis.window.verdicts import Evidence, judge
from runner.results.measurement import Identity, Measurement, Placement
from runner.results.tables import REQUESTS
from runner.spec.request import Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What the task says of the completions; None, with the reason, where it says nothing."""

    quality: float | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    stderr: float | None = None
    reason: str | None = None
    chance: float | None = None
    per_sample: Mapping[str, float] = field(default_factory=dict)
    output_agreement: float | None = None
    output_agreement_default: float | None = None


def build_trial_row(measurement: Measurement, scores: Scores) -> dict[str, Any]:
    """Return a row of `tables.TRIALS` for a trial that was measured."""
    row = _identify(measurement.identity, measurement.placement)
    sound = [completion for completion in measurement.completions if completion.error is None]
    duration_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    row |= {"status": "ok", "start_ns": measurement.start_ns, "duration_s": duration_s}
    row |= {"pace_lost_s": measurement.pace_lost_s, "idle_power_w": measurement.idle_power_w}
    row |= _count_work(measurement.completions, sound)
    row |= _describe_times(sound, duration_s, measurement.identity.request_kind)
    account = account_energy(measurement)
    row |= account.row | _share_energy(account.row["energy_j"], row)
    row |= describe_phases(measurement, row) | regress_phases(measurement, row["energy_j"])
    row |= _describe_steady_part(measurement, sound)
    row |= describe_gpu_state(measurement)
    row |= {
        "quality": scores.quality,
        "quality_metric": scores.metric,
        "quality_higher_is_better": scores.higher_is_better,
        "quality_stderr": scores.stderr,
        "quality_reason": scores.reason,
        "quality_chance": scores.chance,
        "output_agreement": scores.output_agreement,
        "output_agreement_default": scores.output_agreement_default,
    }
    in_window = readings_in_window(measurement)
    evidence = Evidence(
        disagreement=account.disagreement,
        source_problems=account.problems,
        capped_fraction=event_fraction(in_window, POWER_CAP_BIT),
        thermal_fraction=event_fraction(in_window, THERMAL_BITS),
        power_limit_w_start=measurement.edge_start.power_limit_w,
        foreign_process_ids=find_foreign_processes(measurement),
        memory_left_behind=measurement.memory_left_behind,
        prefix_cache_reset=measurement.prefix_cache_reset,
    )
    row["verdicts"] = judge(row, evidence)
    return row


def build_failed_row(identity: Identity, placement: Placement, error: str, start_ns: int) -> dict[str, Any]:
    """Return the row of a trial that came to nothing: what was asked for, where, and why it failed."""
    return _identify(identity, placement) | {"status": "failed", "error": error, "verdicts": [], "start_ns": start_ns}


def build_requests_table(
    measurement: Measurement, per_sample: Mapping[str, float], attribution: Attribution | None = None
) -> pl.DataFrame:
    """Return [num_requests] rows of `tables.REQUESTS`; without an attribution their energy is null."""
    names = [name for name in REQUESTS if name in Completion.__dataclass_fields__]
    rows = [
        {name: getattr(completion, name) for name in names}
        | {
            "trial_id": measurement.identity.row_id,
            "request_id": completion.row_id,
            "request_kind": completion.kind,
            "score": per_sample.get(completion.sample_id) if completion.error is None else None,
            "prompt_token_entropy_bits": measurement.prompt_token_entropy_bits.get(completion.request_id),
            "prompt_surprise_nats": measurement.prompt_surprise_nats.get(completion.request_id),
        }
        for completion in measurement.completions
    ]
    table = pl.DataFrame(rows, schema=REQUESTS)
    if attribution is None:
        return table
    return table.with_columns(
        energy_j=pl.Series(attribution.energy_j, dtype=pl.Float64),
        energy_method=pl.Series(attribution.method, dtype=pl.String),
    )


def _identify(identity: Identity, placement: Placement) -> dict[str, Any]:
    row = asdict(identity) | asdict(placement) | identity.load.columns()
    del row["load"]
    return row | {"trial_id": identity.row_id, "gpu_uuids": list(placement.gpu_uuids)}


def _count_work(completions: Sequence[Completion], sound: Sequence[Completion]) -> dict[str, Any]:
    cached = [completion.num_cached_tokens for completion in sound if completion.num_cached_tokens is not None]
    return {
        "num_requests": len(completions),
        "num_failed_requests": len(completions) - len(sound),
        "num_truncated_requests": sum(completion.truncated for completion in completions),
        "num_prompt_tokens": sum(completion.num_prompt_tokens for completion in sound),
        "num_cached_tokens": sum(cached) if len(cached) == len(sound) else None,
        "num_output_tokens": sum(completion.num_output_tokens for completion in sound),
    }


def _describe_times(sound: Sequence[Completion], duration_s: float, kind: str) -> dict[str, Any]:
    latency_s, ttft_s, tpot_s = [], [], []
    for completion in sound:
        queued_ns, first_ns, last_ns = completion.queued_ns, completion.first_token_ns, completion.last_token_ns
        if queued_ns is None or first_ns is None or last_ns is None:
            continue
        latency_s.append((last_ns - queued_ns) * 1e-9)
        if kind == "generate":
            ttft_s.append((first_ns - queued_ns) * 1e-9)
            if completion.num_output_tokens > 1:
                tpot_s.append((last_ns - first_ns) * 1e-9 / (completion.num_output_tokens - 1))
    num_output_tokens = sum(completion.num_output_tokens for completion in sound)
    row: dict[str, Any] = {
        "concurrency_mean": sum(latency_s) / duration_s if latency_s and duration_s > 0 else None,
        "requests_per_s": len(sound) / duration_s if duration_s > 0 else None,
        "output_tokens_per_s": num_output_tokens / duration_s if kind == "generate" and duration_s > 0 else None,
    }
    for name, values in (("ttft_s", ttft_s), ("tpot_s", tpot_s), ("latency_s", latency_s)):
        for percent in (50, 95):
            row[f"{name}_p{percent}"] = float(np.percentile(values, percent)) if values else None
    return row


def _share_energy(energy_j: float | None, row: Mapping[str, Any]) -> dict[str, Any]:
    if energy_j is None:
        return {}
    duration_s, idle_w = row["duration_s"], row["idle_power_w"]
    num_sound = row["num_requests"] - row["num_failed_requests"]
    generates = row["request_kind"] == "generate"
    per_request_j = energy_j / num_sound if num_sound else None
    latency_s = row["latency_s_p50"]
    return {
        "mean_power_w": energy_j / duration_s if duration_s > 0 else None,
        "energy_above_idle_j": energy_j - idle_w * duration_s if idle_w is not None else None,
        "joules_per_output_token": energy_j / row["num_output_tokens"]
        if generates and row["num_output_tokens"]
        else None,
        "joules_per_prompt_token": energy_j / row["num_prompt_tokens"]
        if not generates and row["num_prompt_tokens"]
        else None,
        "joules_per_request": per_request_j,
        "energy_delay_product_js": per_request_j * latency_s if per_request_j and latency_s is not None else None,
    }


def _describe_steady_part(measurement: Measurement, sound: Sequence[Completion]) -> dict[str, Any]:
    """From when `concurrency` requests have their first token until the first place that stays empty."""
    timed = [
        c for c in sound if c.queued_ns is not None and c.first_token_ns is not None and c.last_token_ns is not None
    ]
    concurrency = measurement.identity.load.concurrency
    if len(timed) < 2 * concurrency:
        return {}
    by_queue = sorted(timed, key=lambda c: c.queued_ns or 0)
    start_ns = max(c.first_token_ns or 0 for c in by_queue[:concurrency])
    end_ns = sorted(c.last_token_ns or 0 for c in timed)[len(timed) - concurrency]
    if end_ns <= start_ns:
        return {}
    try:
        energy_j = estimate_trace(measurement.power, start_ns, end_ns, measurement.sensors).energy_j
    except (TraceGapError, EdgeNotCoveredError):
        return {}
    return {
        "steady_duration_s": (end_ns - start_ns) * 1e-9,
        "steady_energy_j": energy_j,
        "steady_num_output_tokens": round(sum(_tokens_between(c, start_ns, end_ns) for c in timed))
        if measurement.identity.request_kind == "generate"
        else None,
    }


def _tokens_between(completion: Completion, start_ns: int, end_ns: int) -> float:
    """Output tokens in (start, end], taking a request's tokens as evenly spaced from its first to its last."""
    first_ns, last_ns, count = (
        completion.first_token_ns or 0,
        completion.last_token_ns or 0,
        completion.num_output_tokens,
    )
    if count == 0:
        return 0.0
    if count == 1 or last_ns == first_ns:
        return float(count) if start_ns < first_ns <= end_ns else 0.0

    def made_by(time_ns: int) -> float:
        if time_ns < first_ns:
            return 0.0
        return min(1 + (time_ns - first_ns) / (last_ns - first_ns) * (count - 1), float(count))

    return made_by(end_ns) - made_by(start_ns)
