"""The times of a trial, from hand-made requests whose percentiles can be computed on paper."""

from dataclasses import asdict
from typing import Any

import pytest

from runner.analysis.window.times import Times, describe_times
from runner.results.tables import TRIALS
from tests.analysis.measurements import LOGLIKELIHOOD, make_completion, make_even_measurement, make_measurement


def assert_times(times: Times, **expected: Any) -> None:
    for name, value in expected.items():
        assert getattr(times, name) == (pytest.approx(value) if isinstance(value, float) else value), name


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(describe_times(make_even_measurement()))) <= set(TRIALS)


def test_eight_requests_in_four_seconds() -> None:
    assert_times(
        describe_times(make_even_measurement(pace_lost_s=0.01)),
        duration_s=4.0,
        pace_lost_s=0.01,
        concurrency_mean=2.0,
        requests_per_s=2.0,
        output_tokens_per_s=22.0,
        ttft_s_p50=0.1,
        ttft_s_p95=0.1,
        tpot_s_p50=0.09,
        tpot_s_p95=0.09,
        latency_s_p50=1.0,
        latency_s_p95=1.0,
    )


def test_percentiles_lie_between_requests() -> None:
    completions = [make_completion(f"task/{k}", 0.0, 0.1 * k, float(k)) for k in range(1, 6)]
    times = describe_times(make_measurement(completions, 5.0))
    # Of 1, 2, 3, 4, 5: the 95th percentile lies at place 0.95 * 4 = 3.8 from the first.
    assert_times(times, latency_s_p50=3.0, latency_s_p95=4.8, ttft_s_p50=0.3, ttft_s_p95=0.48, tpot_s_p50=0.27)
    assert_times(times, concurrency_mean=3.0)


def test_one_token_has_a_first_token_but_no_time_per_further_token() -> None:
    times = describe_times(make_measurement([make_completion("task/0", 0.0, 0.5, 0.5, num_output_tokens=1)], 3.0))
    assert_times(times, ttft_s_p50=0.5, tpot_s_p50=None, tpot_s_p95=None)


def test_requests_of_one_token_do_not_dilute_the_others_time_per_token() -> None:
    short = make_completion("task/0", 0.0, 0.5, 0.5, num_output_tokens=1)
    long = make_completion("task/1", 0.0, 0.5, 2.5, num_output_tokens=21)
    assert_times(describe_times(make_measurement([short, long], 3.0)), tpot_s_p50=0.1, tpot_s_p95=0.1)


def test_log_likelihoods_have_a_latency_and_no_token_times() -> None:
    completions = [
        make_completion(f"task/{k}", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0) for k in range(4)
    ]
    times = describe_times(make_measurement(completions, 4.0, identity=LOGLIKELIHOOD))
    assert_times(times, output_tokens_per_s=None, requests_per_s=1.0, ttft_s_p50=None, tpot_s_p50=None)
    assert_times(times, latency_s_p50=1.0)


def test_failed_requests_have_no_times() -> None:
    sound = make_completion("task/0", 0.0, 0.5, 1.0)
    failed = make_completion("task/1", 0.0, 0.5, 3.0, error="aborted")
    times = describe_times(make_measurement([sound, failed], 4.0))
    assert_times(times, latency_s_p95=1.0, requests_per_s=0.25, concurrency_mean=0.25, output_tokens_per_s=11 / 4)


def test_where_every_request_failed_latencies_are_unknown_and_rates_are_0() -> None:
    failed = make_completion("task/0", 0, 1, 2, error="refused", num_output_tokens=0, last_token_ns=None)
    times = describe_times(make_measurement([failed], 3.0))
    assert_times(times, latency_s_p50=None, concurrency_mean=None, ttft_s_p50=None)
    assert_times(times, requests_per_s=0.0, output_tokens_per_s=0.0)


def test_a_window_without_length_has_no_rates() -> None:
    times = describe_times(make_measurement([make_completion("task/0", 0.0, 0.0, 0.0)], 0.0))
    assert_times(times, duration_s=0.0, concurrency_mean=None, requests_per_s=None, output_tokens_per_s=None)
