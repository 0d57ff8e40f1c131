"""The columns of a summary: what is said of one operating point of one block. Next: summary."""

import polars as pl

from runner.results.tables import TRIALS
from runner.spec.load import LOAD_COLUMNS
from runner.spec.operating_point import OperatingPoint

BLOCK = ("block_id", "model", "task", "request_kind", *LOAD_COLUMNS)
"""The columns that tell blocks apart."""
POINT = tuple(OperatingPoint().columns())
"""The columns that tell operating points apart."""
ENERGY_METRICS = (
    "joules_per_token",
    "joules_per_request",
    "energy_delay_product_js",
    "mean_power_w",
    "joules_per_good_request",
    "joules_per_token_with_host",
)
METRICS = (
    *ENERGY_METRICS,
    "output_tokens_per_s",
    "requests_per_s",
    "latency_s_p50",
    "ttft_s_p50",
    "tpot_s_p50",
    "ttft_s_p95",
    "tpot_s_p95",
    "ttft_s_p99",
    "tpot_s_p99",
    "latency_s_p99",
    "good_requests_per_s",
    "slo_attainment_fraction",
)
SERVICE = (
    "slo_ttft_s", "slo_tpot_s", "slo_e2el_s", "slo_required_fraction",
    "capacity_per_s", "arrivals_per_s", "queue_length_mean", "busy_fraction", "idle_energy_j", "arrival_lateness_s_p95",
)  # fmt: skip
"""Columns of an SLO and of an open loop whose mean over the averaged trials is taken."""
GOALS = ("joules_per_token", "energy_delay_product_js", "joules_per_good_request")
"""What an operating point may be chosen by."""
PHASES = tuple(f"joules_per_{phase}_token{bound}" for phase in ("prefill", "decode") for bound in ("", "_low", "_high"))
ACTIVITY = ("tensor_active_fraction", "dram_active_fraction", "sm_active_fraction")
_SUFFIXES = ("", "_low", "_high", "_change", "_change_low", "_change_high")

OPERATING_POINTS: dict[str, pl.DataType] = {
    # what: a block and an operating point of it
    **{name: TRIALS[name] for name in (*BLOCK[: 1 + BLOCK.index("concurrency")], *POINT[:3])},
    "is_default": pl.Boolean(),
    "gpu_name": pl.String(),
    "gpu_uuids": pl.List(pl.String()),
    "simulated": pl.Boolean(),
    # how much stands behind it
    "num_trials": pl.Int64(),
    "num_averaged": pl.Int64(),
    "num_with_verdicts": pl.Int64(),
    "num_failed": pl.Int64(),
    "verdicts": pl.List(pl.String()),
    "is_sound": pl.Boolean(),
    "default_is_sound": pl.Boolean(),
    "default_is_on_same_board": pl.Boolean(),
    "interval_reason": pl.String(),
    "is_least_energy": pl.Boolean(),
    "is_least_energy_with_host": pl.Boolean(),
    # means over the averaged trials, and how they compare with the default clock
    "sm_clock_mhz": pl.Float64(),
    "mem_clock_mhz": pl.Float64(),
    "throttled_fraction": pl.Float64(),
    "power_capped_fraction": pl.Float64(),
    **{name: pl.Float64() for name in ACTIVITY},
    "bound_by": pl.String(),
    "token_kind": pl.String(),
    "energy_j": pl.Float64(),
    "energy_uncertainty_j": pl.Float64(),
    "memory_energy_fraction": pl.Float64(),
    "host_energy_fraction": pl.Float64(),
    **{f"{metric}{suffix}": pl.Float64() for metric in METRICS for suffix in _SUFFIXES},
    "num_compared": pl.Int64(),
    **{f"{goal}_chosen_{bound}": pl.Float64() for goal in GOALS for bound in ("low", "high")},
    "slowdown": pl.Float64(),
    "slowdown_low": pl.Float64(),
    "slowdown_high": pl.Float64(),
    **{name: pl.Float64() for name in PHASES},
    "phase_method": pl.String(),
    "phase_reason": pl.String(),
    "truncated_fraction": pl.Float64(),
    "quality": pl.Float64(),
    "quality_stderr": pl.Float64(),
    "quality_difference": pl.Float64(),
    "quality_difference_stderr": pl.Float64(),
    "quality_metric": pl.String(),
    "quality_higher_is_better": pl.Boolean(),
    "quality_reason": pl.String(),
    "quality_chance": pl.Float64(),
    "output_agreement": pl.Float64(),
    "output_agreement_default": pl.Float64(),
    # requests that arrive at a rate, what they were promised, and how the clock was locked
    **{name: TRIALS[name] for name in (*LOAD_COLUMNS[1:], *POINT[3:], *SERVICE)},
}
"""What `summary.summarise_operating_points` returns. Null means unknown, never 0.

is_default: no clock and no limit was requested. Sentinels belong to this row.
num_averaged: trials behind the means. These are the sound ones; where there is none (`is_sound` is false), the ones
    that finished with a verdict. `verdicts` names every verdict that occurred, averaged or not.
is_least_energy: the sound operating point of its block with the least joules per token; of equals, the first row. It is
    ranked by joules_per_token_change where every sound operating point has one, else by joules_per_token.
is_least_energy_with_host: the same by joules_per_token_with_host, which adds host_energy_j. False everywhere where the
    host's energy is not known.
power_capped_fraction: share of the window in which the power cap held the clock down.
bound_by: what bound the operating point (`bound_by.BOUNDS`); null without the GPU's activity counters.
memory_energy_fraction, host_energy_fraction: memory_energy_j and host_energy_j over energy_j. The memory's part is in
    energy_j, the host's is not.
token_kind: "output" for generate; "prompt" for loglikelihood, which generates nothing.
gpu_uuids: the GPUs of these trials. There are several where a block went on elsewhere after its GPU was lost.
*_low, *_high: 95 % interval of the mean over the averaged trials. Where it is null, `interval_reason` says why.
*_change: fraction by which this operating point differs from the default clock (-0.23: 23 % less). It is the mean over
    pairs of a trial with the block's default-clock trials before and after it (`intervals.compare_with_default`), so
    that it may differ in the last digit from the ratio of two means. `_change_low` and `_change_high` are its 95 %
    interval, null on the default row. Where `default_is_on_same_board` is false, two GPUs are compared and it is wider.
*_chosen_low, *_chosen_high: the interval of `_change` for an operating point that was chosen by it among the block's
    `num_compared` ones beside the default. It is wider, since the least of many is partly so by chance (Bonferroni).
slowdown: how much longer the same work takes than at the default clock (0.05: 5 %), by latency_s_p50 where it is known,
    else by the throughput.
energy_j, energy_uncertainty_j: means over the averaged trials, not their sum.
joules_per_prefill_token, joules_per_decode_token: means over the averaged trials. So are their bounds, which makes the
    intervals too wide rather than too narrow. phase_reason: of the trials that have phases, if any has.
truncated_fraction: share of the requests whose prompt was cut from the left to fit the model's context.
quality_stderr: the score's own standard error over documents. Repeats answer the same documents, so it is not divided
    by their number.
quality_difference: score minus the default row's, in the metric's own unit. Its stderr treats the two as independent.
    Both answer the same documents, so that it is an upper bound.
"""
