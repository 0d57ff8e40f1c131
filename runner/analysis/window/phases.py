"""Prefill and decode: what a window says of each by itself. A `Measurement` and its row enter; phase columns leave.

Windows made for it do (static batches, whose phases are watched one by one); so do windows that hold one phase only.
Every other row says why not. `phase_lengths.py` adds what takes several trials. docs/measurement.md, "Prefill and
decode".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from scipy.special import stdtrit

from runner.analysis.energy.curve import NO_TRACE, EnergyCurve, energy_curve
from runner.results.measurement import Measurement

MIN_PHASE_S = 0.5
"""25 samples of a driver that takes one each 20 ms."""
MIN_INNER_SHARE = 0.5
"""Of a phase, what is left between its trimmed edges."""
MIN_BATCHES = 3
CONFIDENCE = 0.95
NO_STEPS = "this version of the engine does not tell its steps"
MIXED = 'prefill and decoding overlap in this window: ask for phases = "static_batches" or "output_lengths"'


def describe_phases(measurement: Measurement, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the phase columns of a row.

    Args:
        row: with its work and its energy.
    """
    if row["energy_j"] is None:
        return {"phase_reason": "the energy of the window is unknown"}
    num_sound = row["num_requests"] - row["num_failed_requests"]
    if row["num_output_tokens"] <= num_sound:
        return _describe_prefill_alone(row)
    if measurement.identity.phase_role is not None:
        return {"phase_reason": "measured for the phases of the full-length trial beside it"}
    if measurement.batch_edges_ns is None:
        return {"phase_reason": MIXED}
    return _describe_batches(measurement, row)


def reach_over(least: Sequence[float], most: Sequence[float], unseen: float) -> tuple[float, float]:
    """Return a 95 % interval from the mean of one list to the mean of the other.

    Each end is widened by how much its list scatters (Student's t; not at all for one value) and, in quadrature, by
    `unseen`: what the sensor may miss every time.
    """
    return (
        float(np.mean(least)) - hypot(_half_width(least), unseen),
        float(np.mean(most)) + hypot(_half_width(most), unseen),
    )


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)) * stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))


def share_phases(row: Mapping[str, Any], prefill_j: float | None, decode_j: float | None) -> dict[str, Any]:
    """Return what a window's phases come to at so many joules a token, and the share that they leave unexplained.

    The first token of each request is made by prefill, the others by decoding.
    """
    num_sound = row["num_requests"] - row["num_failed_requests"]
    prefill_energy_j = None if prefill_j is None else prefill_j * num_prefill_tokens(row)
    decode_energy_j = None if decode_j is None else decode_j * (row["num_output_tokens"] - num_sound)
    residual = None
    if prefill_energy_j is not None and decode_energy_j is not None:
        residual = 1 - (prefill_energy_j + decode_energy_j) / row["energy_j"]
    return {
        "prefill_energy_j": prefill_energy_j,
        "decode_energy_j": decode_energy_j,
        "phase_residual_fraction": residual,
    }


def num_prefill_tokens(row: Mapping[str, Any]) -> int:
    """Return the prompt tokens that were computed: those from the prefix cache were not."""
    num_tokens: int = row["num_prompt_tokens"] - (row["num_cached_tokens"] or 0)
    return num_tokens


def _describe_prefill_alone(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing is generated beyond the token that prefill makes: all joules are prefill's."""
    num_tokens = num_prefill_tokens(row)
    if num_tokens == 0:
        return {"phase_reason": "no prompt token was computed"}
    energy_j, uncertainty_j = row["energy_j"], row.get("energy_uncertainty_j")
    columns = {
        "phase_method": "all_prefill",
        "phase_reason": "nothing was decoded",
        "prefill_energy_j": energy_j,
        "joules_per_prefill_token": energy_j / num_tokens,
    }
    if uncertainty_j is None:
        return columns
    return columns | {
        "phase_interval": "sensor",
        "joules_per_prefill_token_low": (energy_j - uncertainty_j) / num_tokens,
        "joules_per_prefill_token_high": (energy_j + uncertainty_j) / num_tokens,
    }


# static batches ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Phase:
    """One phase of one batch."""

    duration_s: float
    energy_j: float
    """Between the trimmed edges, as the tokens are."""
    num_prefill_tokens: float
    num_decode_tokens: float


def _describe_batches(measurement: Measurement, row: Mapping[str, Any]) -> dict[str, Any]:
    if not measurement.steps:
        return {"phase_reason": NO_STEPS}
    curve = energy_curve(measurement, row["energy_j"])
    if curve is None:
        return {"phase_reason": NO_TRACE}
    trim_s = curve.reach_s
    min_s = max(MIN_PHASE_S, 2 * trim_s / (1 - MIN_INNER_SHARE))
    batches = [_cut_batch(measurement, edges_ns) for edges_ns in measurement.batch_edges_ns or ()]
    edges_ns = [edges for edges in batches if edges is not None]
    if not edges_ns:
        return {"phase_reason": "no batch ended without a failed request"}
    prefills, decodes = (
        [_read_phase(measurement, curve, edges[place], edges[place + 1], trim_s) for edges in edges_ns]
        for place in (0, 1)
    )
    # What is decoded beside prompts has to be told from prefill, so decoding comes first.
    unseen_share = (row.get("energy_uncertainty_j") or 0.0) / row["energy_j"]
    decode = _estimate("decode", [phase for phase in decodes if phase.duration_s >= min_s], None, unseen_share)
    decode_j = decode.get("joules_per_decode_token")
    prefill = _estimate("prefill", [phase for phase in prefills if phase.duration_s >= min_s], decode_j, unseen_share)
    reasons = []
    for name, columns, phases in (("prefill", prefill, prefills), ("decode", decode, decodes)):
        longest_s = max(phase.duration_s for phase in phases)
        if longest_s < min_s:
            reasons.append(f"no batch's {name} lasts {min_s:.2g} s: the longest {longest_s:.2g} s")
        elif not columns:
            reasons.append("what is decoded beside prompts cannot be told from prefill without decoding alone")
        elif f"joules_per_{name}_token_low" not in columns:
            reasons.append(f"an interval for {name} needs {MIN_BATCHES} batches")
    if not prefill and not decode:
        return {"phase_reason": "; ".join(reasons)}
    has_interval = any(name.endswith("_low") for name in (*prefill, *decode))
    return {
        "phase_method": "static_batches",
        "phase_reason": "; ".join(reasons) or None,
        "phase_interval": "batches" if has_interval else None,
        **prefill,
        **decode,
        **share_phases(row, prefill.get("joules_per_prefill_token"), decode.get("joules_per_decode_token")),
    }


def _estimate(name: str, phases: Sequence[_Phase], decode_j: float | None, unseen_share: float) -> dict[str, float]:
    """Return joules a token over the batches, with their interval.

    A token that is decoded beside prompts costs at least what a token of a prompt does, which passes the same layers,
    and at most what it costs alone (`decode_j`). Prefill lies between the two, its value in the middle.
    """
    if name == "decode":
        upper = lower = [phase.energy_j / phase.num_decode_tokens for phase in phases]
    else:
        if decode_j is None and any(phase.num_decode_tokens > 0 for phase in phases):
            return {}
        upper = [phase.energy_j / (phase.num_prefill_tokens + phase.num_decode_tokens) for phase in phases]
        lower = [
            (phase.energy_j - phase.num_decode_tokens * (decode_j or 0.0)) / phase.num_prefill_tokens
            for phase in phases
        ]
    if not phases:
        return {}
    value = float(np.mean(lower) + np.mean(upper)) / 2
    columns = {f"joules_per_{name}_token": value}
    if len(phases) < MIN_BATCHES:
        return columns
    low, high = reach_over(lower, upper, unseen_share * value)
    return columns | {f"joules_per_{name}_token_low": low, f"joules_per_{name}_token_high": high}


def _cut_batch(measurement: Measurement, edges_ns: tuple[int, int]) -> tuple[int, int, int] | None:
    """Return when prefill begins, when it has ended and decoding is alone, and when the first request ends.

    None for a batch of which a request failed.
    """
    start_ns, end_ns = edges_ns
    batch = [c for c in measurement.completions if c.queued_ns is not None and start_ns <= c.queued_ns < end_ns]
    if not batch or any(completion.error is not None for completion in batch):
        return None
    scheduled_ns, first_ns, last_ns = [], [], []
    for completion in batch:
        if completion.scheduled_ns is None or completion.first_token_ns is None or completion.last_token_ns is None:
            return None
        scheduled_ns.append(completion.scheduled_ns)
        first_ns.append(completion.first_token_ns)
        last_ns.append(completion.last_token_ns)
    return min(scheduled_ns), max(first_ns), min(last_ns)


def _read_phase(measurement: Measurement, curve: EnergyCurve, start_ns: int, end_ns: int, trim_s: float) -> _Phase:
    """Return a phase between its trimmed edges.

    A reading may stand for the time since the one before it, or for a longer one: that much is trimmed off at each end,
    so that all readings that are used lie inside the phase.
    A step's tokens are spread evenly over the time since the step before it.
    """
    trim_ns = min(round(trim_s * 1e9), (end_ns - start_ns) // 2)
    inner_ns = np.array([start_ns + trim_ns, max(end_ns - trim_ns, start_ns + trim_ns)])
    steps = [step for step in measurement.steps if start_ns < step.time_ns <= end_ns]
    # Relative to the phase: ns since the epoch lose their last digits in a double.
    step_ns = np.array([0, *(step.time_ns - start_ns for step in steps)])
    counts = np.array([(0, 0), *((step.num_prefill_tokens, step.num_decode_tokens) for step in steps)])
    prefill, decode = (float(np.diff(np.interp(inner_ns - start_ns, step_ns, kind))[0]) for kind in counts.cumsum(0).T)
    return _Phase(
        duration_s=(end_ns - start_ns) * 1e-9,
        energy_j=curve.between(int(inner_ns[0]), int(inner_ns[1])),
        num_prefill_tokens=prefill,
        num_decode_tokens=decode,
    )
