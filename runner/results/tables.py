"""The schemas of every table of a run directory, in one place: names carry their unit, null means unknown.

Other people's scripts read these names (docs/architecture.md, "The run directory"): add columns, never rename them.
"""

import polars as pl

TRIALS: dict[str, pl.DataType] = {
    # what
    "trial_id": pl.String(),
    "block_id": pl.String(),
    "model": pl.String(),
    "task": pl.String(),
    "request_kind": pl.String(),
    "concurrency": pl.Int64(),
    "repeat": pl.Int64(),
    "is_sentinel": pl.Boolean(),
    "sm_clock_mhz_requested": pl.Int64(),
    "mem_clock_mhz_requested": pl.Int64(),
    "power_limit_w_requested": pl.Float64(),
    # where
    "gpu_uuids": pl.List(pl.String()),
    "gpu_name": pl.String(),
    "host": pl.String(),
    "fingerprint": pl.String(),
    "simulated": pl.Boolean(),
    "simulated_time_scale": pl.Float64(),
    # how it went
    "status": pl.String(),
    "error": pl.String(),
    "verdicts": pl.List(pl.String()),
    "start_ns": pl.Int64(),
    "duration_s": pl.Float64(),
    "concurrency_mean": pl.Float64(),
    "sm_clock_mhz": pl.Float64(),
    "sm_clock_mhz_p05": pl.Float64(),
    "mem_clock_mhz": pl.Float64(),
    "throttled_fraction": pl.Float64(),
    "temperature_c_start": pl.Float64(),
    "temperature_c_end": pl.Float64(),
    "pace_lost_s": pl.Float64(),
    # work
    "num_requests": pl.Int64(),
    "num_failed_requests": pl.Int64(),
    "num_prompt_tokens": pl.Int64(),
    "num_cached_tokens": pl.Int64(),
    "num_output_tokens": pl.Int64(),
    # energy
    "energy_j": pl.Float64(),
    "energy_source": pl.String(),
    "energy_trace_j": pl.Float64(),
    "energy_counter_j": pl.Float64(),
    "counter_interval_trace_j": pl.Float64(),
    "counter_interval_j": pl.Float64(),
    "num_power_samples": pl.Int64(),
    "max_power_gap_s": pl.Float64(),
    "idle_power_w": pl.Float64(),
    "energy_above_idle_j": pl.Float64(),
    "mean_power_w": pl.Float64(),
    "joules_per_output_token": pl.Float64(),
    "joules_per_prompt_token": pl.Float64(),
    "joules_per_request": pl.Float64(),
    "prefill_energy_j": pl.Float64(),
    "decode_energy_j": pl.Float64(),
    "energy_delay_product_js": pl.Float64(),
    # the steady part of the window
    "steady_duration_s": pl.Float64(),
    "steady_energy_j": pl.Float64(),
    "steady_num_output_tokens": pl.Int64(),
    # time
    "output_tokens_per_s": pl.Float64(),
    "requests_per_s": pl.Float64(),
    "ttft_s_p50": pl.Float64(),
    "ttft_s_p95": pl.Float64(),
    "tpot_s_p50": pl.Float64(),
    "tpot_s_p95": pl.Float64(),
    "latency_s_p50": pl.Float64(),
    "latency_s_p95": pl.Float64(),
    # quality
    "quality": pl.Float64(),
    "quality_metric": pl.String(),
    "quality_higher_is_better": pl.Boolean(),
    "quality_stderr": pl.Float64(),
    "quality_reason": pl.String(),
    "quality_chance": pl.Float64(),
    "output_agreement": pl.Float64(),
    "output_agreement_default": pl.Float64(),
}

REQUESTS: dict[str, pl.DataType] = {
    "trial_id": pl.String(),
    "request_id": pl.String(),
    "sample_id": pl.String(),
    "request_kind": pl.String(),
    "num_prompt_tokens": pl.Int64(),
    "num_cached_tokens": pl.Int64(),
    "num_output_tokens": pl.Int64(),
    "queued_ns": pl.Int64(),
    "scheduled_ns": pl.Int64(),
    "first_token_ns": pl.Int64(),
    "last_token_ns": pl.Int64(),
    "energy_j": pl.Float64(),
    "energy_method": pl.String(),
    "score": pl.Float64(),
    "loglikelihood": pl.Float64(),
    "truncated": pl.Boolean(),
    "text": pl.String(),
    "error": pl.String(),
}

POWER: dict[str, pl.DataType] = {
    "time_ns": pl.Int64(),
    "gpu_uuid": pl.String(),
    "power_w": pl.Float64(),
    "sm_clock_mhz": pl.Int64(),
    "mem_clock_mhz": pl.Int64(),
    "temperature_c": pl.Float64(),
    "energy_counter_total_j": pl.Float64(),
    "event_reasons": pl.Int64(),
}

SAMPLES: dict[str, pl.DataType] = {
    "task": pl.String(),
    "sample_id": pl.String(),
    "num_characters": pl.Int64(),
    "num_words": pl.Int64(),
    "text": pl.String(),
}
