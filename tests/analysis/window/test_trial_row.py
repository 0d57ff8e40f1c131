"""A trial's row, computed on paper from hand-made measurements, and how its parts are merged."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from runner.analysis.window.trial_row import TrialQuality, analyse_trial, build_failed_row, merge_parts
from runner.analysis.window.work import count_work
from runner.results.measurement import CounterTick, EdgeReading, Identity, Measurement
from runner.results.tables import REQUESTS, TRIALS
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason
from tests.analysis.measurements import (
    AT_1500_MHZ,
    IDENTITY,
    LOGLIKELIHOOD,
    PLACEMENT,
    START_NS,
    at,
    in_flight,
    make_completion,
    make_even_measurement,
    make_measurement,
    make_power,
)


def build(measurement: Measurement, **quality: Any) -> dict[str, Any]:
    return analyse_trial(measurement, TrialQuality(**quality)).row


def assert_row(row: dict[str, Any], **expected: Any) -> None:
    for column, value in expected.items():
        assert row[column] == (pytest.approx(value) if isinstance(value, float) else value), column


# columns -------------------------------------------------------------------------------------------------------------


def test_a_row_holds_every_column_of_the_table_and_fits_its_types() -> None:
    row = build(make_even_measurement())
    assert set(row) == set(TRIALS)
    frame = pl.DataFrame([row], schema=TRIALS)
    assert frame.schema == pl.Schema(TRIALS)


def test_a_failed_row_holds_what_was_asked_for_and_why_it_failed() -> None:
    failed = build_failed_row(Identity(**IDENTITY), PLACEMENT, "the engine died", START_NS)
    assert set(failed) <= set(TRIALS)
    assert pl.DataFrame([{name: failed.get(name) for name in TRIALS}], schema=TRIALS).height == 1
    assert_row(failed, status="failed", error="the engine died", verdicts=[], trial_id="t0", gpu_uuids=["GPU-0"])
    assert not {"energy_j", "duration_s", "num_requests", "quality"} & set(failed)


def test_the_row_says_what_ran_where() -> None:
    identity = AT_1500_MHZ | {"is_sentinel": True, "repeat": 3}
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
        error=None,
        start_ns=START_NS,
        duration_s=4.0,
        pace_lost_s=0.01,
        verdicts=[],
    )


def test_a_second_attempt_is_a_row_of_its_own() -> None:
    analysed = analyse_trial(make_even_measurement(identity={"attempt": 2}))
    assert_row(analysed.row, trial_id="t0-2", attempt=2)
    assert set(analysed.requests["trial_id"]) == {"t0-2"}
    assert_row(build(make_even_measurement()), trial_id="t0", attempt=1)


@dataclass(frozen=True)
class _Part:
    energy_j: float
    duration_s: float


def test_parts_are_merged_by_the_names_of_their_fields() -> None:
    assert merge_parts(_Part(1.0, 2.0), {"model": "m"}) == {"energy_j": 1.0, "duration_s": 2.0, "model": "m"}


def test_a_column_that_two_parts_hold_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"two parts of a row hold: \['duration_s', 'energy_j'\]"):
        merge_parts({"model": "m"}, _Part(1.0, 2.0), _Part(1.0, 2.0))


def test_a_column_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"no schema has: \['energy_mj'\]"):
        merge_parts(count_work(make_measurement([], 1.0)), {"energy_mj": 1.0})


# work, time, energy --------------------------------------------------------------------------------------------------


def test_eight_requests_in_four_seconds_at_500_w() -> None:
    assert_row(
        build(make_even_measurement()),
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
        steady_duration_s=3.9,
        steady_energy_j=1950.0,
        steady_num_output_tokens=86,
    )


def test_requests_and_the_rest_sum_to_the_windows_energy() -> None:
    late = [make_completion(f"task/{k}", k + 1.0, k + 1.5, k + 2.0) for k in range(3)]
    analysed = analyse_trial(make_measurement(late, 4.0, identity=in_flight(1)))
    assert analysed.requests.schema == pl.Schema(REQUESTS)
    assert_row(analysed.row, unattributed_energy_j=500.0)  # the first second, in which no request was in flight
    assert analysed.requests["energy_j"].sum() + 500.0 == pytest.approx(analysed.row["energy_j"])


def test_log_likelihoods_cost_prompt_tokens_and_have_no_token_times() -> None:
    completions = [
        make_completion(f"task/{k}", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0) for k in range(4)
    ]
    assert_row(
        build(make_measurement(completions, 4.0, identity=LOGLIKELIHOOD | in_flight(1))),
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


def test_failed_requests_are_counted_and_their_tokens_are_not() -> None:
    sound = [make_completion(f"task/{k}", k, k + 0.5, k + 1.0) for k in range(3)]
    failed = make_completion("task/9", 3.0, 3.5, 3.9, error="aborted", last_token_ns=None, num_output_tokens=0)
    row = build(make_measurement([*sound, failed], 4.0, identity=in_flight(1)))
    assert_row(row, num_requests=4, num_failed_requests=1, num_prompt_tokens=300, num_output_tokens=33)
    assert_row(row, joules_per_request=2000.0 / 3, joules_per_output_token=2000.0 / 33)
    assert row["verdicts"] == ["concurrency_not_reached", "requests_failed"]


def test_where_every_request_failed_nothing_is_divided_by_nothing() -> None:
    failed = make_completion("task/0", 0, 1, 2, error="refused", num_output_tokens=0, last_token_ns=None)
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
    for column in ("mean_power_w", "joules_per_output_token", "joules_per_request", "energy_above_idle_j"):
        assert row[column] is None, column
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


# verdicts ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_low_for_a_tenth_of_the_window_was_not_held() -> None:
    low = pl.col("time_ns").is_between(at(0), at(0.35)) & pl.col("sm_clock_mhz").is_not_null()
    power = make_power(500.0, 4.0).with_columns(sm_clock_mhz=pl.when(low).then(300).otherwise("sm_clock_mhz"))
    assert build(make_even_measurement(power=power, identity=AT_1500_MHZ))["verdicts"] == ["clock_not_held"]
    blind = make_power(500.0, 4.0, sm_clock_mhz=None)
    assert build(make_even_measurement(power=blind, identity=AT_1500_MHZ))["verdicts"] == ["clock_not_held"]
    unread = make_power(500.0, 4.0, event_reasons=None, sm_clock_mhz=None, temperature_c=None)
    assert build(make_even_measurement(power=unread))["verdicts"] == []  # nothing was requested


@pytest.mark.parametrize(
    ("reasons", "throttled", "verdicts"),
    [
        (ThrottleReason.IDLE, 0.0, []),
        (ThrottleReason.APPLICATION_CLOCKS | ThrottleReason.DISPLAY_CLOCK, 0.0, []),
        (ThrottleReason.POWER_CAP, 1.0, ["power_capped"]),
        (ThrottleReason.HARDWARE_SLOWDOWN, 1.0, []),
        (ThrottleReason.SOFTWARE_THERMAL, 1.0, ["thermal_throttled"]),
        (ThrottleReason.HARDWARE_THERMAL, 1.0, ["thermal_throttled"]),
        (ThrottleReason.POWER_BRAKE, 1.0, []),
        (ThrottleReason.POWER_CAP | ThrottleReason.IDLE, 1.0, ["power_capped"]),
    ],
)
def test_throttling_is_in_the_row_and_some_of_it_is_a_verdict(
    reasons: ThrottleReason, throttled: float, verdicts: list[str]
) -> None:
    power = make_power(500.0, 4.0, event_reasons=int(reasons))
    row = build(make_even_measurement(power=power, identity=AT_1500_MHZ))
    assert_row(row, throttled_fraction=throttled)
    assert row["verdicts"] == verdicts


def test_thermal_time_that_the_gpu_counts_is_a_verdict() -> None:
    start, hot = EdgeReading(throttled_thermal_s=5.0), EdgeReading(throttled_thermal_s=5.1)
    row = build(make_even_measurement(edge_start=start, edge_end=hot))
    assert_row(row, throttled_thermal_s=0.1, verdicts=["thermal_throttled"])


def test_the_limit_in_force_at_the_end_is_in_the_row_and_is_compared_with_the_start() -> None:
    edges = {"edge_start": EdgeReading(power_limit_w=700.0), "edge_end": EdgeReading(power_limit_w=500.0)}
    row = build(make_even_measurement(**edges, settle_s=0.2, persistence_mode=True))
    assert_row(row, power_limit_w=500.0, settle_s=0.2, persistence_mode=True, verdicts=["limit_reverted"])
    asked = {"operating_point": OperatingPoint(power_limit_w=500.0)}
    assert build(make_even_measurement(**edges, identity=asked))["verdicts"] == []


def test_a_process_that_is_not_our_engines_is_marked() -> None:
    edges = {"edge_start": EdgeReading(process_ids=frozenset({7})), "edge_end": EdgeReading(process_ids=frozenset({9}))}
    row = build(make_even_measurement(engine_process_ids=frozenset({7}), **edges))
    assert row["verdicts"] == ["foreign_process"]


def test_a_window_in_which_the_gpu_heats_up_is_marked() -> None:
    warming = 40.0 + 10.0 * (pl.col("time_ns") - START_NS) * 1e-9
    power = make_power(500.0, 4.0).with_columns(
        temperature_c=pl.when(pl.col("temperature_c").is_not_null()).then(warming)
    )
    assert build(make_even_measurement(power=power))["verdicts"] == ["temperature_drift"]


def test_what_the_engine_left_or_kept_is_marked() -> None:
    assert build(make_even_measurement(memory_left_behind=True))["verdicts"] == ["memory_left_behind"]
    assert build(make_even_measurement(prefix_cache_reset=False))["verdicts"] == []  # no prompt was found in it
    cached = [make_completion(f"task/{k}", k // 2, k // 2 + 0.1, k // 2 + 1.0, num_cached_tokens=64) for k in range(8)]
    row = build(make_measurement(cached, 4.0, prefix_cache_reset=False))
    assert row["verdicts"] == ["prefix_cache_not_reset"]


# scores --------------------------------------------------------------------------------------------------------------


def test_scores_are_carried_over_with_their_reason() -> None:
    quality = {
        "quality": 0.75,
        "quality_metric": "acc",
        "quality_higher_is_better": True,
        "quality_stderr": 0.1,
        "quality_reason": None,
        "quality_chance": 0.25,
        "output_agreement": 0.9,
        "output_agreement_default": 0.95,
    }
    assert_row(build(make_even_measurement(), **quality), **quality)
    assert_row(build(make_even_measurement(), quality_reason="no answer"), quality=None, quality_reason="no answer")
    assert_row(analyse_trial(make_even_measurement()).row, quality=None, quality_reason=None)


def test_scores_of_samples_are_those_of_their_requests() -> None:
    analysed = analyse_trial(make_even_measurement(), per_sample={"task/0-0": 1.0})
    assert analysed.requests["score"].to_list() == [1.0] + [None] * 7
