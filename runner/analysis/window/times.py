"""The times of a trial: its window's length, its throughput, and the latencies of its requests.

A `Measurement` enters, `Times` leave. Next: costs and verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.analysis.window.work import select_sound
from runner.results.measurement import Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The time columns of `tables.TRIALS`, over the requests that did not fail; None where unknown."""

    duration_s: float
    pace_lost_s: float | None
    concurrency_mean: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    ttft_s_p50: float | None
    ttft_s_p95: float | None
    tpot_s_p50: float | None
    tpot_s_p95: float | None
    latency_s_p50: float | None
    latency_s_p95: float | None


def describe_times(measurement: Measurement) -> Times:
    """Return the times of a window. Log-likelihoods generate nothing, so that they have no TTFT and no TPOT."""
    generates = measurement.identity.request_kind == "generate"
    duration_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    sound = select_sound(measurement.completions)
    latency_s: list[float] = []
    ttft_s: list[float] = []
    tpot_s: list[float] = []
    for completion in sound:
        queued_ns, first_ns, last_ns = completion.queued_ns, completion.first_token_ns, completion.last_token_ns
        if queued_ns is None or first_ns is None or last_ns is None:
            continue
        latency_s.append((last_ns - queued_ns) * 1e-9)
        if generates:
            ttft_s.append((first_ns - queued_ns) * 1e-9)
            if completion.num_output_tokens > 1:
                tpot_s.append((last_ns - first_ns) * 1e-9 / (completion.num_output_tokens - 1))
    num_output_tokens = sum(completion.num_output_tokens for completion in sound)
    return Times(
        duration_s=duration_s,
        pace_lost_s=measurement.pace_lost_s,
        concurrency_mean=sum(latency_s) / duration_s if latency_s and duration_s > 0 else None,
        requests_per_s=len(sound) / duration_s if duration_s > 0 else None,
        output_tokens_per_s=num_output_tokens / duration_s if generates and duration_s > 0 else None,
        ttft_s_p50=_percentile(ttft_s, 50),
        ttft_s_p95=_percentile(ttft_s, 95),
        tpot_s_p50=_percentile(tpot_s, 50),
        tpot_s_p95=_percentile(tpot_s, 95),
        latency_s_p50=_percentile(latency_s, 50),
        latency_s_p95=_percentile(latency_s, 95),
    )


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """Return a percentile, interpolated between two values; None without a value."""
    return float(np.percentile(values, percent)) if values else None
