import polars as pl
import pytest

from runner.results.exchange.request_times import describe_times, read_request_times
from runner.results.tables import REQUESTS
from tests.results.exchange.runs import START_NS, S, requests


def test_times_are_counted_from_arrival() -> None:
    times = read_request_times(requests("t"), START_NS)
    assert times.start_s == [0.0, 0.0, 5.0, 5.0, None]
    assert times.ttft_s == [1.0, 1.0, 1.0, 1.0, None]
    assert times.latency_s == [5.0, 5.0, 5.0, 5.0, None]
    assert times.tpot_s == pytest.approx([0.4, 0.4, 0.4, 0.4, None])
    assert times.errors == ["", "", "", "", "timed out"]
    assert times.num_prompt_tokens == [100] * 5
    assert times.num_output_tokens == [11, 11, 11, 11, 0]  # what a failed request made is not counted
    assert times.mean_token_gap_s == pytest.approx(0.4)
    assert times.most_in_flight == 2  # a request that ends as another one starts does not overlap it


def test_requests_outside_the_window_are_not_counted() -> None:
    outside = requests("t").with_columns(in_window=pl.col("request_id") != "r0#0")
    assert read_request_times(outside, START_NS).start_s == [0.0, 5.0, 5.0, None]


def test_the_mean_gap_weighs_requests_by_their_tokens() -> None:
    rows = [
        {"request_id": f"r{n}", "num_prompt_tokens": 5, "num_output_tokens": n, "queued_ns": START_NS,
         "first_token_ns": START_NS + S, "last_token_ns": START_NS + S + span * S}
        for n, span in ((1, 0), (3, 2), (11, 5))
    ]  # fmt: skip
    times = read_request_times(pl.DataFrame(rows, schema=REQUESTS), START_NS)
    assert sorted(t for t in times.tpot_s if t is not None) == [0.5, 1.0]  # one token has no gap
    assert times.mean_token_gap_s == pytest.approx((2 + 5) / (2 + 10))
    assert times.most_in_flight == 3


def test_statistics_are_those_of_numpy_over_what_is_known() -> None:
    assert describe_times([None, None]) == {}
    assert describe_times([1.0, None, 3.0], 1e3) == pytest.approx(
        {"mean": 2000, "median": 2000, "std": 1000, "p90": 2800, "p95": 2900, "p99": 2980}
    )


def test_no_times_are_no_statistics() -> None:
    unknown = requests("t").with_columns(first_token_ns=pl.lit(None, pl.Int64))
    times = read_request_times(unknown, START_NS)
    assert (set(times.ttft_s), times.mean_token_gap_s, times.most_in_flight) == ({None}, None, None)
