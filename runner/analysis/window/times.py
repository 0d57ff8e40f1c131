"""The times of a trial: its window's length, its throughput, and the latencies of its requests.

A `Measurement` enters, `Times` leave. Next: costs and verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.analysis.window.flow import mean_in_system
from runner.analysis.window.token_times import count_tokens
from runner.analysis.window.work import select_sound
from runner.results.measurement import Measurement
from runner.spec.load import ClosedLoop


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
    ttft_s_p99: float | None
    tpot_s_p99: float | None
    latency_s_p99: float | None


MIN_FOR_P99 = 200
"""Requests behind a 99th percentile: two of them lie beyond it."""


def describe_times(measurement: Measurement) -> Times:
    """Return the times of a window. Log-likelihoods generate nothing, so that they have no TTFT and no TPOT."""
    generates = measurement.identity.request_kind == "generate"
    duration_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    is_open = not isinstance(measurement.identity.load, ClosedLoop)
    sound = select_sound(measurement.counted)
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
    num_served, num_output_tokens = len(sound), sum(completion.num_output_tokens for completion in sound)
    if is_open:  # what was served inside the edges, whenever it had arrived
        num_served, num_output_tokens = _count_served(measurement)
    return Times(
        duration_s=duration_s,
        pace_lost_s=measurement.pace_lost_s,
        concurrency_mean=mean_in_system(measurement)
        if is_open
        else sum(latency_s) / duration_s
        if latency_s and duration_s > 0
        else None,
        requests_per_s=num_served / duration_s if duration_s > 0 else None,
        output_tokens_per_s=num_output_tokens / duration_s if generates and duration_s > 0 else None,
        ttft_s_p50=_percentile(ttft_s, 50),
        ttft_s_p95=_percentile(ttft_s, 95),
        tpot_s_p50=_percentile(tpot_s, 50),
        tpot_s_p95=_percentile(tpot_s, 95),
        latency_s_p50=_percentile(latency_s, 50),
        latency_s_p95=_percentile(latency_s, 95),
        ttft_s_p99=_percentile(ttft_s, 99, MIN_FOR_P99),
        tpot_s_p99=_percentile(tpot_s, 99, MIN_FOR_P99),
        latency_s_p99=_percentile(latency_s, 99, MIN_FOR_P99),
    )


def _count_served(measurement: Measurement) -> tuple[int, int]:
    """Return the requests that ended in the window, and the output tokens that came in it."""
    sound = select_sound(measurement.completions)
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    num_ended = sum(start_ns < (completion.last_token_ns or 0) <= end_ns for completion in sound)
    return num_ended, count_tokens(sound, start_ns, end_ns)


def _percentile(values: Sequence[float], percent: int, min_values: int = 1) -> float | None:
    """Return a percentile, interpolated between two values; None with too few of them."""
    return float(np.percentile(values, percent)) if len(values) >= min_values else None
