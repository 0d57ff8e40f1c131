"""The schemas of every table of a run directory. Names carry their unit, and null means unknown.

Other people's scripts read these names (docs/architecture.md, "The run directory"). Columns may be added and are never
renamed.
"""

import polars as pl

TRIALS: dict[str, pl.DataType] = {
    # what
    "trial_id": pl.String(),
    "block_id": pl.String(),
    "model": pl.String(),
    "task": pl.String(),
    "request_kind": pl.String(),
    "concurrency": pl.Int64(),  # of a closed loop; null for requests that arrive at a rate
    "request_rate_per_s_requested": pl.Float64(),  # of an open loop; so are the next two
    "capacity_fraction": pl.Float64(),  # the rate as a share of the capacity, where the sweep file asks so
    "burstiness": pl.Float64(),
    "slo_ttft_s": pl.Float64(),  # what each request must keep to be a good one
    "slo_tpot_s": pl.Float64(),
    "slo_e2el_s": pl.Float64(),
    "slo_required_fraction": pl.Float64(),  # the least share of good requests
    "repeat": pl.Int64(),
    "is_sentinel": pl.Boolean(),
    "phase_role": pl.String(),  # of paired trials, which tell prefill from decode: one_token, half_length
    "attempt": pl.Int64(),  # 2: measured again because of a verdict; then trial_id ends in "-2"
    "sm_clock_mhz_requested": pl.Int64(),
    "mem_clock_mhz_requested": pl.Int64(),
    "power_limit_w_requested": pl.Float64(),
    "clock_lock_requested": pl.String(),  # ceiling: from the lowest clock up to the requested one; null: pinned to it
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
    "sm_clock_below_fraction": pl.Float64(),  # share of the readings below the requested clock
    "prefill_sm_clock_mhz": pl.Float64(),  # mean over the steps of mostly prompt tokens
    "decode_sm_clock_mhz": pl.Float64(),  # mean over the steps without prompt tokens
    "mem_clock_mhz": pl.Float64(),
    "throttled_fraction": pl.Float64(),
    "throttled_power_s": pl.Float64(),  # from the GPU's cumulative counters; so are the next two
    "throttled_thermal_s": pl.Float64(),
    "throttled_other_s": pl.Float64(),
    "settle_s": pl.Float64(),  # from setting the clocks until readings under load showed them; null if they never did
    "power_limit_w": pl.Float64(),  # in force when the window closed
    "persistence_mode": pl.Boolean(),
    "tensor_active_fraction": pl.Float64(),  # of the peak, by the GPU's counters (GPM); so are the next two
    "dram_active_fraction": pl.Float64(),
    "sm_active_fraction": pl.Float64(),
    "activity_reason": pl.String(),
    "temperature_c_start": pl.Float64(),
    "temperature_c_end": pl.Float64(),
    "pace_lost_s": pl.Float64(),
    # work
    "num_requests": pl.Int64(),
    "num_failed_requests": pl.Int64(),
    "num_requests_left_out": pl.Int64(),  # of the last round, since max_window_s cut it; null where there are no rounds
    "num_truncated_requests": pl.Int64(),  # prompts cut from the left to fit the model's context
    "num_prompt_tokens": pl.Int64(),
    "num_cached_tokens": pl.Int64(),
    "num_output_tokens": pl.Int64(),
    # energy
    "energy_j": pl.Float64(),
    "energy_uncertainty_j": pl.Float64(),  # 95 % half-width for what the source cannot see; without the gain error
    "energy_source": pl.String(),
    "power_source": pl.String(),  # which of the GPU's readings the trace holds: samples, instant, average
    "energy_trace_j": pl.Float64(),
    "energy_counter_j": pl.Float64(),
    "counter_interval_trace_j": pl.Float64(),
    "counter_interval_j": pl.Float64(),
    "num_power_samples": pl.Int64(),
    "max_power_gap_s": pl.Float64(),
    "idle_power_w": pl.Float64(),
    "energy_above_idle_j": pl.Float64(),
    "memory_energy_j": pl.Float64(),  # the GPU's memory's share of energy_j
    "memory_energy_uncertainty_j": pl.Float64(),
    "memory_energy_reason": pl.String(),
    "host_energy_j": pl.Float64(),  # CPU packages and their memory, by RAPL, times host_share_fraction
    "host_energy_above_idle_j": pl.Float64(),
    "host_share_fraction": pl.Float64(),  # one over the number of workers of this run on this host
    "host_energy_zones": pl.String(),  # what is counted, e.g. "package-0, dram"
    "host_energy_reason": pl.String(),
    "unattributed_energy_j": pl.Float64(),  # of no request; it and the requests' energy_j sum to energy_j
    "mean_power_w": pl.Float64(),
    "joules_per_output_token": pl.Float64(),
    "joules_per_prompt_token": pl.Float64(),
    "joules_per_request": pl.Float64(),
    "energy_delay_product_js": pl.Float64(),
    # prefill and decode; _low and _high are a 95 % interval
    "phase_method": pl.String(),  # all_prefill, static_batches, output_lengths
    "phase_reason": pl.String(),  # why a phase, or its interval, is null
    "phase_interval": pl.String(),  # what the intervals are over: batches, repeats, sensor
    "prefill_energy_j": pl.Float64(),
    "decode_energy_j": pl.Float64(),
    "joules_per_prefill_token": pl.Float64(),
    "joules_per_prefill_token_low": pl.Float64(),
    "joules_per_prefill_token_high": pl.Float64(),
    "joules_per_decode_token": pl.Float64(),
    "joules_per_decode_token_low": pl.Float64(),
    "joules_per_decode_token_high": pl.Float64(),
    # share of energy_j that the two phases do not explain; with output_lengths, of the half-length paired trial
    "phase_residual_fraction": pl.Float64(),
    "regression_joules_per_prefill_token": pl.Float64(),  # a cross-check
    "regression_joules_per_decode_token": pl.Float64(),
    "regression_reason": pl.String(),
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
    "ttft_s_p99": pl.Float64(),  # null where fewer than 200 requests stand behind it; so are the next two
    "tpot_s_p99": pl.Float64(),
    "latency_s_p99": pl.Float64(),
    # service: what an SLO and an open loop add
    "good_requests_per_s": pl.Float64(),  # vLLM's request_goodput
    "slo_attainment_fraction": pl.Float64(),
    "joules_per_good_request": pl.Float64(),
    "joules_per_good_output_token": pl.Float64(),
    "capacity_per_s": pl.Float64(),  # the highest rate that keeps the SLO at this operating point, where it was sought
    "arrivals_per_s": pl.Float64(),  # offered in the window; requests_per_s is what was served
    "queue_length_mean": pl.Float64(),  # requests that have arrived and are in no step yet
    "queue_growth": pl.Float64(),  # requests in the system at the window's end beyond those at its start
    "busy_fraction": pl.Float64(),  # share of the window with a request in flight
    "idle_energy_j": pl.Float64(),  # of the rest of the window
    "arrival_lateness_s_p95": pl.Float64(),  # from a request's arrival until the engine had it
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
    "request_id": pl.String(),  # ends in "#" and the round
    "round": pl.Int64(),  # how often the window came to this request before, from 0
    "sample_id": pl.String(),
    "request_kind": pl.String(),
    "num_prompt_tokens": pl.Int64(),
    "num_cached_tokens": pl.Int64(),
    "num_output_tokens": pl.Int64(),
    "queued_ns": pl.Int64(),  # handed to the engine; in an open loop, arrived
    "arrival_lateness_s": pl.Float64(),
    "in_window": pl.Boolean(),  # arrived in the window, so that the trial's row counts it
    "is_good": pl.Boolean(),  # kept the SLO
    "scheduled_ns": pl.Int64(),
    "first_token_ns": pl.Int64(),
    "last_token_ns": pl.Int64(),
    "energy_j": pl.Float64(),
    "energy_method": pl.String(),
    "score": pl.Float64(),
    "loglikelihood": pl.Float64(),
    "prompt_token_entropy_bits": pl.Float64(),  # features of the prompt in the model's own tokens (docs/inputs.md)
    "prompt_surprise_nats": pl.Float64(),
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
    "memory_power_w": pl.Float64(),  # of power_w, what the GPU's memory draws; a mean over the second before
}

SAMPLES: dict[str, pl.DataType] = {
    "task": pl.String(),
    "sample_id": pl.String(),
    # features of the text (docs/inputs.md); null where a feature is not defined
    "num_characters": pl.Int64(),
    "num_words": pl.Int64(),
    "word_entropy_bits": pl.Float64(),
    "type_token_ratio": pl.Float64(),
    "mtld": pl.Float64(),
    "automated_readability_index": pl.Float64(),
    "coleman_liau_index": pl.Float64(),
    "punctuation_fraction": pl.Float64(),
    "digit_fraction": pl.Float64(),
    "compression_ratio": pl.Float64(),
    "entities_per_100_words": pl.Float64(),
    "entities_reason": pl.String(),  # why entities_per_100_words is null
    "entities_pipeline": pl.String(),  # the spaCy pipeline that found them
    "text": pl.String(),
}
