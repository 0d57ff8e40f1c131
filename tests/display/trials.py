"""Trials of a report whose numbers are checked by hand: two tasks of one model, 4 in flight."""

from typing import Any

import polars as pl

from runner.results import tables


def trial(clock: int | None, joules: float | None, latency_s: float, **columns: Any) -> dict[str, Any]:
    generate = columns.get("request_kind", "generate") == "generate"
    energy = "joules_per_output_token" if generate else "joules_per_prompt_token"
    return {
        "block_id": "qa",
        "model": "small",
        "task": "tiny_qa",
        "request_kind": "generate",
        "concurrency": 4,
        "is_sentinel": False,
        "sm_clock_mhz_requested": clock,
        "gpu_uuids": ["SIM-0"],
        "gpu_name": "NVIDIA H200 (simulated)",
        "simulated": True,
        "status": "ok",
        "verdicts": [],
        "duration_s": 10.0,
        "sm_clock_mhz": 1980.0 if clock is None else float(clock),
        "energy_j": 100.0,
        "mean_power_w": 500.0,
        energy: joules,
        "output_tokens_per_s": 4 * 32 / latency_s,
        "requests_per_s": 4 / latency_s,
        "latency_s_p50": latency_s,
        "tpot_s_p50": latency_s / 32,
        "quality": 0.62,
        "quality_metric": "exact_match",
        "quality_higher_is_better": True,
        "quality_stderr": 0.03,
    } | columns


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    """One after the other, 15 s apart."""
    return pl.DataFrame([{"start_ns": 15_000_000_000 * i} | row for i, row in enumerate(rows)], schema=tables.TRIALS)


TRIALS = frame(
    # The default clock drifts: 0.50, 0.52, 0.54, 0.56 -> 0.53; latency 1.00. Between each two stands a 990 MHz trial:
    # 0.38, 0.40, 0.42 -> 0.40; in the mean 24.5 % less, 4.0 % slower; one trial is left out.
    trial(None, 0.50, 1.0, is_sentinel=True),
    trial(990, 0.38, 1.03, quality=0.61),
    trial(None, 0.52, 1.0),
    trial(990, 0.40, 1.04, quality=0.61),
    trial(None, 0.54, 1.0, is_sentinel=True),
    trial(990, 0.42, 1.05, quality=0.61),
    trial(None, 0.56, 1.0, is_sentinel=True),
    trial(990, 0.10, 1.04, verdicts=["clock_not_held", "trace_gap"]),
    # 345 MHz: two repeats, after the last default-clock trial: 1.56 / 0.56
    trial(345, 1.55, 3.0, verdicts=["trace_gap"]),
    trial(345, 1.57, 3.0, verdicts=["trace_gap"]),
    trial(1500, None, 1.0, status="failed", error="engine died:\nout of memory", energy_j=None),
    # a loglikelihood task without a score, with the default clock best
    *(
        trial(clock, joules, 0.5, block_id="cloze", task="tiny_cloze", request_kind="loglikelihood", tpot_s_p50=None,
              output_tokens_per_s=None, quality=None, quality_stderr=None, quality_metric=None,
              quality_reason="random weights answer nothing")
        for clock, joules in ((None, 0.0081), (990, 0.0125))
    ),
)  # fmt: skip
