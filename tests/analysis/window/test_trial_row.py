"""A trial's row, worked out on paper from hand-made measurements."""

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from runner.analysis.window.trial_row import Scores, build_failed_row, build_requests_table, build_trial_row
from runner.results.measurement import CounterTick, EdgeReading, Identity, Measurement
from runner.results.tables import POWER, REQUESTS, SAMPLES, TRIALS
from runner.spec.request import Step
from tests.analysis.measurements import (
    IDENTITY,
    PLACEMENT,
    START_NS,
    at,
    make_completion,
    make_even_measurement,
    make_measurement,
    make_power,
)


def build(measurement: Measurement, **scores: Any) -> dict[str, Any]:
    return build_trial_row(measurement, Scores(**scores))


def assert_row(row: dict[str, Any], **expected: Any) -> None:
    for column, value in expected.items():
        assert row[column] == (pytest.approx(value) if isinstance(value, float) else value), column


# columns -------------------------------------------------------------------------------------------------------------


def test_a_row_and_a_failed_row_hold_columns_of_the_table_and_fit_its_types() -> None:
    failed = build_failed_row(Identity(**IDENTITY), PLACEMENT, "the engine died", START_NS)
    for row in (build(make_even_measurement()), failed):
        assert set(row) <= set(TRIALS)
        frame = pl.DataFrame([{column: row.get(column) for column in TRIALS}], schema=TRIALS)
        assert frame.schema == pl.Schema(TRIALS)
    assert_row(failed, status="failed", error="the engine died", verdicts=[], trial_id="t0", gpu_uuids=["GPU-0"])
    assert not {"energy_j", "duration_s", "num_requests", "quality"} & set(failed)


UNIT = r"(s|ns|w|j|js|mhz|c|bytes|bits|nats)"
NAMED = [
    re.compile(rf"(^|.*_){UNIT}(_(p05|p50|p95|start|end|requested))?$"),
    re.compile(r"(steady_)?num_[a-z_]+$"),
    re.compile(r"(regression_)?joules_per_[a-z_]+$"),
    re.compile(r".*_fraction$"),
]
WITHOUT_UNIT = {
    "concurrency",  # a number asked for, and its mean
    "concurrency_mean",
    "repeat",  # ordinals
    "attempt",
    "simulated_time_scale",  # ratios, and scores in their metric's own unit
    "quality",
    "quality_stderr",
    "quality_chance",
    "output_agreement",
    "output_agreement_default",
    "score",
    "loglikelihood",
    "type_token_ratio",
    "compression_ratio",
    "mtld",  # a mean number of words, and school grades: the names that the field has for them
    "automated_readability_index",
    "coleman_liau_index",
    "entities_per_100_words",
    "event_reasons",  # bits
}


@pytest.mark.parametrize("table", [TRIALS, REQUESTS, POWER, SAMPLES], ids=["TRIALS", "REQUESTS", "POWER", "SAMPLES"])
def test_every_numeric_column_says_its_unit_or_is_a_count(table: dict[str, pl.DataType]) -> None:
    numeric = [name for name, kind in table.items() if kind.is_numeric() and name not in WITHOUT_UNIT]
    assert [name for name in numeric if not any(pattern.match(name) for pattern in NAMED)] == []


@pytest.mark.parametrize("name", ["energy", "power_mw", "latency_ms", "tokens", "clock"])
def test_the_rule_for_names_refuses_other_units_and_none(name: str) -> None:
    assert not any(pattern.match(name) for pattern in NAMED)


def test_the_row_says_what_ran_where() -> None:
    identity = {"sm_clock_mhz_requested": 1500, "is_sentinel": True, "repeat": 3}
    row = build(make_even_measurement(identity=identity, pace_lost_s=0.01))
    assert_row(
        row,
        trial_id="t0",
        block_id="b0",
        model="m",
        concurrency=2,
        repeat=3,
        is_sentinel=True,
        sm_clock_mhz_requested=1500,
        mem_clock_mhz_requested=None,
        gpu_uuids=["GPU-0"],
        host="here",
        fingerprint="f",
        simulated=True,
        status="ok",
        start_ns=START_NS,
        duration_s=4.0,
        pace_lost_s=0.01,
        verdicts=[],
    )


# work, time, energy --------------------------------------------------------------------------------------------------


def test_eight_requests_in_four_seconds_at_500_w() -> None:
    row = build(make_even_measurement())
    assert_row(
        row,
        num_requests=8,
        num_failed_requests=0,
        num_prompt_tokens=800,
        num_cached_tokens=0,
        num_output_tokens=88,
        concurrency_mean=2.0,
        requests_per_s=2.0,
        output_tokens_per_s=22.0,
        ttft_s_p50=0.1,
        ttft_s_p95=0.1,
        tpot_s_p50=0.09,
        tpot_s_p95=0.09,
        latency_s_p50=1.0,
        energy_j=2000.0,
        energy_source="trace",
        energy_trace_j=2000.0,
        energy_counter_j=2000.0,
        counter_interval_j=2050.0,
        counter_interval_trace_j=2050.0,
        mean_power_w=500.0,
        idle_power_w=100.0,
        energy_above_idle_j=1600.0,
        joules_per_output_token=2000.0 / 88,
        joules_per_prompt_token=None,
        joules_per_request=250.0,
        energy_delay_product_js=250.0,
        num_power_samples=201,
        max_power_gap_s=0.02,
    )


def test_percentiles_lie_between_requests() -> None:
    completions = [make_completion(f"task/{k}#0", 0.0, 0.1 * k, float(k)) for k in range(1, 6)]
    row = build(make_measurement(completions, 5.0, identity={"concurrency": 5}))
    # Of 1, 2, 3, 4, 5: the 95th percentile lies at place 0.95 * 4 = 3.8 from the first.
    assert_row(row, latency_s_p50=3.0, latency_s_p95=4.8, ttft_s_p50=0.3, ttft_s_p95=0.48, tpot_s_p50=0.27)
    assert_row(row, concurrency_mean=3.0, joules_per_request=500.0, energy_delay_product_js=1500.0)


def test_one_token_has_a_first_token_but_no_time_per_further_token() -> None:
    row = build(make_measurement([make_completion("task/0#0", 0.0, 0.5, 0.5, num_output_tokens=1)], 3.0))
    assert_row(row, ttft_s_p50=0.5, tpot_s_p50=None, tpot_s_p95=None, num_output_tokens=1)


def test_requests_of_one_token_do_not_dilute_the_others_time_per_token() -> None:
    short = make_completion("task/0#0", 0.0, 0.5, 0.5, num_output_tokens=1)
    long = make_completion("task/1#0", 0.0, 0.5, 2.5, num_output_tokens=21)
    assert_row(build(make_measurement([short, long], 3.0)), tpot_s_p50=0.1, tpot_s_p95=0.1)


def test_log_likelihoods_cost_prompt_tokens_and_have_no_token_times() -> None:
    completions = [
        make_completion(f"task/{k}#0", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0) for k in range(4)
    ]
    row = build(make_measurement(completions, 4.0, identity={"request_kind": "loglikelihood", "concurrency": 1}))
    assert_row(
        row,
        request_kind="loglikelihood",
        joules_per_prompt_token=5.0,
        joules_per_output_token=None,
        output_tokens_per_s=None,
        requests_per_s=1.0,
        ttft_s_p50=None,
        tpot_s_p50=None,
        latency_s_p50=1.0,
        joules_per_request=500.0,
        verdicts=[],
    )


def test_cached_tokens_are_unknown_where_the_engine_does_not_say() -> None:
    known = make_completion("task/0#0", 0, 1, 2, num_cached_tokens=64)
    unknown = make_completion("task/1#0", 0, 1, 2, num_cached_tokens=None)
    assert_row(build(make_measurement([known, known], 3.0)), num_cached_tokens=128)
    assert_row(build(make_measurement([known, unknown], 3.0)), num_cached_tokens=None)


def test_failed_requests_are_counted_and_their_tokens_are_not() -> None:
    sound = [make_completion(f"task/{k}#0", k, k + 0.5, k + 1.0) for k in range(3)]
    failed = make_completion("task/9#0", 3.0, 3.5, 3.9, error="aborted", last_token_ns=None, num_output_tokens=0)
    row = build(make_measurement([*sound, failed], 4.0, identity={"concurrency": 1}))
    assert_row(row, num_requests=4, num_failed_requests=1, num_prompt_tokens=300, num_output_tokens=33)
    assert_row(row, joules_per_request=2000.0 / 3, joules_per_output_token=2000.0 / 33)
    assert row["verdicts"] == ["concurrency_not_reached", "requests_failed"]


def test_prompts_that_were_cut_are_counted() -> None:
    requests = [make_completion(f"task/{k}#0", k, k + 0.5, k + 1.0, truncated=k > 0) for k in range(3)]
    assert_row(build(make_measurement(requests, 3.0)), num_requests=3, num_truncated_requests=2)


def test_where_every_request_failed_nothing_is_divided_by_nothing() -> None:
    failed = make_completion("task/0#0", 0, 1, 2, error="refused", num_output_tokens=0, last_token_ns=None)
    row = build(make_measurement([failed], 3.0))
    for column in ("joules_per_request", "joules_per_output_token", "latency_s_p50", "concurrency_mean", "ttft_s_p50"):
        assert row[column] is None, column
    assert row["energy_j"] == pytest.approx(1500.0)
    assert row["energy_delay_product_js"] is None
    assert row["verdicts"] == ["concurrency_not_reached", "requests_failed"]


# sources -------------------------------------------------------------------------------------------------------------


def test_without_power_samples_the_counter_counts_and_needs_a_longer_window() -> None:
    row = build(make_even_measurement(power=make_power(None, 4.0)))
    assert_row(row, energy_source="counter", energy_trace_j=None, counter_interval_trace_j=None)
    assert_row(row, energy_j=2050.0 * 4.0 / 4.1, num_power_samples=0, max_power_gap_s=None)
    assert row["verdicts"] == ["window_too_short", "edge_uncovered"]


def test_with_neither_source_energy_is_unknown_and_never_0() -> None:
    row = build(make_even_measurement(power=make_power(None, 4.0), counter_start=None, counter_end=None))
    assert_row(row, energy_j=None, energy_source=None, energy_counter_j=None)
    assert not {"mean_power_w", "joules_per_output_token", "joules_per_request", "energy_above_idle_j"} & set(row)
    assert row["verdicts"] == ["edge_uncovered"]


def test_a_gap_in_the_trace_is_named_and_the_counter_steps_in() -> None:
    power = make_power(500.0, 4.0).filter(~pl.col("time_ns").is_between(at(1.0), at(1.5)) | pl.col("power_w").is_null())
    row = build(make_even_measurement(power=power))
    assert_row(row, energy_source="counter", energy_trace_j=None)
    assert row["max_power_gap_s"] == pytest.approx(0.54, abs=0.021)
    assert row["verdicts"] == ["window_too_short", "trace_gap"]


def test_sources_that_disagree_are_both_reported() -> None:
    counter_end = CounterTick(time_ns=at(4.05), energy_j=1000.0 + 0.95 * 2050.0)
    row = build(make_even_measurement(counter_end=counter_end))
    assert_row(row, energy_j=2000.0, energy_trace_j=2000.0, energy_counter_j=1900.0, counter_interval_j=0.95 * 2050.0)
    assert row["verdicts"] == ["sources_disagree"]


def test_a_counter_that_went_backwards_is_not_used() -> None:
    row = build(make_even_measurement(counter_end=CounterTick(time_ns=at(4.05), energy_j=3.0)))
    assert_row(row, energy_j=2000.0, energy_counter_j=None, counter_interval_j=None)
    assert row["verdicts"] == ["counter_backwards"]


def test_idle_power_unknown_leaves_the_energy_above_it_unknown() -> None:
    assert_row(build(make_even_measurement(idle_power_w=None)), energy_above_idle_j=None, energy_j=2000.0)


# the GPU -----------------------------------------------------------------------------------------------------------


def test_clocks_are_the_median_and_the_5th_percentile_of_the_window_alone() -> None:
    low = (pl.col("time_ns") < START_NS) | pl.col("time_ns").is_between(at(0), at(0.35))
    power = make_power(500.0, 4.0).with_columns(
        sm_clock_mhz=pl.when(low & pl.col("sm_clock_mhz").is_not_null()).then(300).otherwise("sm_clock_mhz")
    )
    row = build(make_even_measurement(power=power, identity={"sm_clock_mhz_requested": 1500}))
    # 4 of the window's 40 readings are low: a tenth, which the median does not see and the 5th percentile does.
    assert_row(row, sm_clock_mhz=1500.0, sm_clock_mhz_p05=300.0, mem_clock_mhz=3201.0)
    assert row["verdicts"] == ["clock_not_held"]


def test_the_clock_of_a_phase_is_the_mean_of_what_was_read_in_its_steps() -> None:
    def step(end_s: float, num_prefill_tokens: int, num_decode_tokens: int) -> Step:
        return Step(
            time_ns=at(end_s),
            num_prefill_tokens=num_prefill_tokens,
            num_decode_tokens=num_decode_tokens,
            num_running=2,
        )

    # One second of prompts at 1500 MHz, one of both alike, one of decoding at 1980, then nothing.
    steps = [step(1.0, 100, 2), step(2.0, 8, 8), step(3.0, 0, 2)]
    power = make_power(500.0, 4.0).with_columns(
        sm_clock_mhz=pl.when(pl.col("sm_clock_mhz").is_null())
        .then(None)
        .when(pl.col("time_ns") <= at(1.0))
        .then(1500)
        .when(pl.col("time_ns").is_between(at(2.0), at(3.0), closed="right"))
        .then(1980)
        .otherwise(300)
    )
    row = build(make_even_measurement(power=power, steps=steps))
    assert_row(row, prefill_sm_clock_mhz=1500.0, decode_sm_clock_mhz=1980.0)
    row = build(make_even_measurement(power=power, steps=steps[:1]))
    assert_row(row, prefill_sm_clock_mhz=1500.0, decode_sm_clock_mhz=None)
    assert_row(build(make_even_measurement()), prefill_sm_clock_mhz=None, decode_sm_clock_mhz=None)


@pytest.mark.parametrize(
    ("bits", "throttled", "verdicts"),
    [
        (0x1, 0.0, []),
        (0x2 | 0x100, 0.0, []),
        (0x4, 1.0, ["power_capped"]),
        (0x8, 1.0, []),
        (0x20, 1.0, ["thermal_throttled"]),
        (0x40, 1.0, ["thermal_throttled"]),
        (0x80, 1.0, []),
        (0x4 | 0x1, 1.0, ["power_capped"]),
    ],
)
def test_throttling_is_told_by_the_bits_that_slow_a_gpu_down(bits: int, throttled: float, verdicts: list[str]) -> None:
    measurement = make_even_measurement(
        power=make_power(500.0, 4.0, event_reasons=bits), identity={"sm_clock_mhz_requested": 1500}
    )
    row = build(measurement)
    assert_row(row, throttled_fraction=throttled)
    assert row["verdicts"] == verdicts


def test_throttling_is_a_share_of_the_readings_and_unknown_without_any() -> None:
    first_second = pl.col("event_reasons").is_not_null() & (pl.col("time_ns") < at(1.0))
    power = make_power(500.0, 4.0).with_columns(
        event_reasons=pl.when(first_second).then(0x40).otherwise("event_reasons")
    )
    assert_row(build(make_even_measurement(power=power)), throttled_fraction=0.25)
    blind = make_power(500.0, 4.0, event_reasons=None, sm_clock_mhz=None, temperature_c=None)
    row = build(make_even_measurement(power=blind))
    assert_row(row, throttled_fraction=None, sm_clock_mhz=None, sm_clock_mhz_p05=None, temperature_c_start=None)
    assert row["verdicts"] == []


def test_temperature_is_the_windows_first_and_last() -> None:
    power = make_power(500.0, 4.0).with_columns(
        temperature_c=pl.when(pl.col("temperature_c").is_not_null()).then(40.0 + (pl.col("time_ns") - START_NS) * 1e-9)
    )
    row = build(make_even_measurement(power=power))
    assert_row(row, temperature_c_start=40.005, temperature_c_end=43.905)


def test_readings_under_the_clock_asked_for_are_a_share_and_unknown_at_the_default() -> None:
    low = pl.col("sm_clock_mhz").is_not_null() & pl.col("time_ns").is_between(at(0), at(0.35))
    power = make_power(500.0, 4.0).with_columns(sm_clock_mhz=pl.when(low).then(1485).otherwise("sm_clock_mhz"))
    row = build(make_even_measurement(power=power, identity={"sm_clock_mhz_requested": 1500}))
    assert_row(row, sm_clock_below_fraction=0.1, verdicts=[])
    assert_row(build(make_even_measurement(power=power)), sm_clock_below_fraction=None)
    blind = make_power(500.0, 4.0, sm_clock_mhz=None)
    row = build(make_even_measurement(power=blind, identity={"sm_clock_mhz_requested": 1500}))
    assert_row(row, sm_clock_below_fraction=None, verdicts=["clock_not_held"])


def test_throttle_times_are_what_the_counters_gained_and_unknown_where_they_cannot_be() -> None:
    start = EdgeReading(throttled_power_s=10.0, throttled_thermal_s=5.0, throttled_other_s=None)
    end = EdgeReading(throttled_power_s=11.5, throttled_thermal_s=0.5, throttled_other_s=3.0)
    row = build(make_even_measurement(edge_start=start, edge_end=end))
    # The thermal counter was reset meanwhile; the other one could not be read at the start.
    assert_row(row, throttled_power_s=1.5, throttled_thermal_s=None, throttled_other_s=None, verdicts=[])
    hot = replace(start, throttled_thermal_s=5.1)
    row = build(make_even_measurement(edge_start=start, edge_end=hot))
    assert_row(row, throttled_thermal_s=0.1, verdicts=["thermal_throttled"])


def test_the_limit_in_force_at_the_end_is_in_the_row_and_is_held_against_the_start() -> None:
    edges = {"edge_start": EdgeReading(power_limit_w=700.0), "edge_end": EdgeReading(power_limit_w=500.0)}
    row = build(make_even_measurement(**edges, settle_s=0.2, persistence_mode=True))
    assert_row(row, power_limit_w=500.0, settle_s=0.2, persistence_mode=True, verdicts=["limit_reverted"])


@pytest.mark.parametrize(
    ("ours", "at_start", "at_end", "verdicts"),
    [
        ({7, 8}, {7, 8}, {7, 8}, []),
        ({7, 8}, {7}, set(), []),  # one of ours ended
        ({7, 8}, {7, 8}, {7, 8, 9}, ["foreign_process"]),
        ({7, 8}, {7, 8, 9}, {7, 8}, ["foreign_process"]),  # there since before the engine, or come since
        ({7, 8}, None, {7, 8, 9}, ["foreign_process"]),
        ({7, 8}, None, None, []),
        (None, {9}, {9}, []),  # nobody knows which are ours
        (set(), set(), set(), []),  # a simulated GPU lists none
    ],
)
def test_a_process_that_is_not_our_engines_is_foreign(
    ours: set[int] | None, at_start: set[int] | None, at_end: set[int] | None, verdicts: list[str]
) -> None:
    edge_start, edge_end = (
        EdgeReading(process_ids=None if ids is None else frozenset(ids)) for ids in (at_start, at_end)
    )
    engine_process_ids = None if ours is None else frozenset(ours)
    measurement = make_even_measurement(engine_process_ids=engine_process_ids, edge_start=edge_start, edge_end=edge_end)
    assert build(measurement)["verdicts"] == verdicts


def test_a_window_in_which_the_gpu_heats_up_is_marked() -> None:
    warming = 40.0 + 10.0 * (pl.col("time_ns") - START_NS) * 1e-9
    power = make_power(500.0, 4.0).with_columns(
        temperature_c=pl.when(pl.col("temperature_c").is_not_null()).then(warming)
    )
    assert build(make_even_measurement(power=power))["verdicts"] == ["temperature_drift"]


def test_what_the_engine_left_or_kept_is_marked() -> None:
    assert build(make_even_measurement(memory_left_behind=True))["verdicts"] == ["memory_left_behind"]
    assert build(make_even_measurement(prefix_cache_reset=False))["verdicts"] == []  # no prompt was found in it
    cached = [
        make_completion(f"task/{k}#0", k // 2, k // 2 + 0.1, k // 2 + 1.0, num_cached_tokens=64) for k in range(8)
    ]
    row = build(make_measurement(cached, 4.0, prefix_cache_reset=False))
    assert row["verdicts"] == ["prefix_cache_not_reset"]


def test_a_retry_is_a_row_of_its_own() -> None:
    identity = {"trial_id": "t0-2", "attempt": 2}
    assert_row(build(make_even_measurement(identity=identity)), trial_id="t0-2", attempt=2)
    assert_row(build(make_even_measurement()), trial_id="t0", attempt=1)


# the steady part -----------------------------------------------------------------------------------------------------


def test_the_steady_part_runs_from_the_last_first_token_to_the_first_empty_place() -> None:
    row = build(make_even_measurement())
    # From 0.1 s (both have their first token) to 4.0 s (nobody comes after); of the first two, 10 tokens each.
    assert_row(row, steady_duration_s=3.9, steady_energy_j=1950.0, steady_num_output_tokens=2 * 10 + 6 * 11)


def test_log_likelihoods_have_a_steady_part_without_output_tokens() -> None:
    completions = [
        make_completion(f"task/{place}-{k}#0", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0)
        for k in range(4)
        for place in range(2)
    ]
    row = build(make_measurement(completions, 4.0, identity={"request_kind": "loglikelihood"}))
    assert_row(row, steady_duration_s=3.0, steady_energy_j=1500.0, steady_num_output_tokens=None)
    assert_row(row, duration_s=4.0, energy_j=2000.0)


def test_the_steady_part_leaves_the_drain_out() -> None:
    """Two places: one request drains alone from 3 to 5 s."""
    completions = [make_completion(f"task/{k}#0", k, k + 0.1, k + 1.0) for k in range(3)]
    completions += [make_completion("task/8#0", 0.0, 0.2, 2.0), make_completion("task/9#0", 2.0, 2.1, 5.0)]
    row = build(make_measurement(completions, 5.0))
    # 0.2 s to 3.0 s. Tokens: 11 - (1 + 10/9) of the first, 11 + 11, 10 of "8", 1 + 0.9/2.9 * 10 of "9".
    num_tokens = (10 - 10 / 9) + 22 + 10 + (1 + 9 / 2.9)
    assert_row(row, steady_duration_s=2.8, steady_energy_j=1400.0, steady_num_output_tokens=round(num_tokens))


def test_too_few_requests_have_no_steady_part() -> None:
    row = build(make_measurement([make_completion(f"task/{k}#0", 0, 1, 3) for k in range(3)], 3.0))
    assert "steady_energy_j" not in row


# scores and requests -------------------------------------------------------------------------------------------------


def test_scores_are_carried_over_with_their_reason() -> None:
    scores = {"quality": 0.75, "metric": "acc", "higher_is_better": True, "stderr": 0.1, "chance": 0.25}
    row = build(make_even_measurement(), **scores, output_agreement=0.9, output_agreement_default=0.95)
    assert_row(row, quality=0.75, quality_metric="acc", quality_higher_is_better=True, quality_stderr=0.1)
    assert_row(row, quality_chance=0.25, output_agreement=0.9, output_agreement_default=0.95, quality_reason=None)
    assert_row(build(make_even_measurement(), reason="no answer"), quality=None, quality_reason="no answer")


def test_the_requests_table_has_a_row_a_request_and_no_invented_energy() -> None:
    measurement = make_even_measurement()
    failed = replace(measurement.completions[0], request_id="task/x#0", sample_id="task/0-0", error="aborted")
    measurement = replace(measurement, completions=[*measurement.completions, failed])
    measurement = replace(measurement, prompt_token_entropy_bits={"task/x": 6.5})
    table = build_requests_table(measurement, {"task/0-0": 1.0})
    assert table.schema == pl.Schema(REQUESTS)
    assert table["prompt_token_entropy_bits"].to_list() == [None] * 8 + [6.5]
    assert table["request_id"].to_list() == [c.request_id for c in measurement.completions]
    assert set(table["trial_id"]) == {"t0"}
    assert table["last_token_ns"].to_list() == [c.last_token_ns for c in measurement.completions]
    assert table["energy_j"].null_count() == table["energy_method"].null_count() == 9
    # A failed request has no score, though its document has one.
    assert table["score"].to_list() == [1.0] + [None] * 8
