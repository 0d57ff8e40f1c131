"""Rows of trials for the tests of what is said of them: one call, one trial, 15 s after the one before."""

from typing import Any

import polars as pl

from runner.results import tables


def trial(clock: int | None, joules: float | None, latency_s: float | None = 1.0, **columns: Any) -> dict[str, Any]:
    """One trial of block "b" at an SM clock; None is the default clock."""
    return {
        "block_id": "b",
        "model": "small",
        "task": "qa",
        "request_kind": "generate",
        "concurrency": 4,
        "is_sentinel": False,
        "sm_clock_mhz_requested": clock,
        "sm_clock_mhz": 1980.0 if clock is None else float(clock),
        "gpu_uuids": ["GPU-a"],
        "gpu_name": "gpu",
        "simulated": False,
        "status": "ok",
        "verdicts": [],
        "duration_s": 10.0,
        "joules_per_output_token": joules,
        "joules_per_request": None if joules is None else 100 * joules,
        "energy_delay_product_js": None if None in (joules, latency_s) else 100 * joules * latency_s,
        "latency_s_p50": latency_s,
    } | columns


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    """One after the other, 15 s apart."""
    numbered = [{"trial_id": f"t{i}", "start_ns": 15_000_000_000 * i} | row for i, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=tables.TRIALS)


def block(changes: dict[int, tuple[float, float]], **columns: Any) -> list[dict[str, Any]]:
    """Three rounds of a block, give or take 0.1 %: the default clock needs 1 J and 1 s, each other what is given."""
    rows = []
    for noise in (0.999, 1.0, 1.001):
        rows.append(trial(None, 1.0 * noise, 1.0, **columns))
        rows += [trial(clock, joules * noise, time_s, **columns) for clock, (joules, time_s) in changes.items()]
    return [*rows, trial(None, 1.0, 1.0, **columns)]
