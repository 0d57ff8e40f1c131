"""Hand-made measurements, whose row can be computed on paper."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from runner.results.measurement import CounterTick, Identity, Measurement, Placement
from runner.results.tables import POWER
from runner.spec.load import ClosedLoop, Load
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Completion

START_NS = 1_795_000_000_000_000_000

IDENTITY: dict[str, Any] = {
    "trial_id": "t0",
    "block_id": "b0",
    "model": "m",
    "task": "synthetic-100x11",
    "request_kind": "generate",
    "load": ClosedLoop(concurrency=2),
    "repeat": 0,
    "is_sentinel": False,
}
AT_1500_MHZ: dict[str, Any] = {"operating_point": OperatingPoint(sm_clock_mhz=1500)}
LOGLIKELIHOOD: dict[str, Any] = {"request_kind": "loglikelihood"}
PLACEMENT = Placement(
    gpu_uuids=("GPU-0",), gpu_name="H200", host="here", fingerprint="f", simulated=True, simulated_time_scale=1.0
)


def at(seconds: float) -> int:
    """Seconds after the window opened, as ns since the epoch."""
    return START_NS + round(seconds * 1e9)


def make_completion(request_id: str, queued_s: float, first_s: float, last_s: float, **changes: Any) -> Completion:
    return Completion(
        **{
            "request_id": request_id,
            "sample_id": request_id,
            "kind": "generate",
            "num_prompt_tokens": 100,
            "num_cached_tokens": 0,
            "num_output_tokens": 11,
            "queued_ns": at(queued_s),
            "scheduled_ns": at(queued_s),
            "first_token_ns": at(first_s),
            "last_token_ns": at(last_s),
        }
        | changes
    )


def make_power(power_w: float | None, end_s: float, **state: Any) -> pl.DataFrame:
    """A power sample each 20 ms and a state reading each 100 ms, from 0.3 s before the window to 0.3 s after it."""
    gpu = {"sm_clock_mhz": 1500, "mem_clock_mhz": 3201, "temperature_c": 40.0, "event_reasons": 0} | state
    samples = [{"time_ns": at(0.02 * k), "power_w": power_w} for k in range(-15, round(end_s * 50) + 16)]
    states = [{"time_ns": at(0.1 * k + 0.005), **gpu} for k in range(-3, round(end_s * 10) + 3)]
    rows = [dict.fromkeys(POWER) | {"gpu_uuid": "GPU-0"} | row for row in samples + states]
    return pl.DataFrame(rows, schema=POWER).sort("time_ns")


def in_flight(concurrency: int) -> dict[str, Load]:
    """An identity's load."""
    return {"load": ClosedLoop(concurrency=concurrency)}


def make_measurement(
    completions: Sequence[Completion], end_s: float, *, identity: dict[str, Any] | None = None, **changes: Any
) -> Measurement:
    """A window of `end_s` seconds at 500 W, its counter ticking 0.05 s outside both edges and in full agreement."""
    return Measurement(
        **{
            "identity": Identity(**IDENTITY | (identity or {})),
            "placement": PLACEMENT,
            "start_ns": START_NS,
            "end_ns": at(end_s),
            "completions": list(completions),
            "steps": [],
            "power": make_power(500.0, end_s),
            "counter_start": CounterTick(time_ns=at(-0.05), energy_j=1000.0),
            "counter_end": CounterTick(time_ns=at(end_s + 0.05), energy_j=1000.0 + 500.0 * (end_s + 0.1)),
            "idle_power_w": 100.0,
        }
        | changes
    )


def make_even_measurement(end_s: float = 4.0, **changes: Any) -> Measurement:
    """Two places, each with a request a second: first token after 0.1 s, then ten more by 0.9 s, queued at once."""
    completions = [
        make_completion(f"task/{place}-{k}", k, k + 0.1, k + 1.0) for k in range(int(end_s)) for place in range(2)
    ]
    return make_measurement(completions, end_s, **changes)
