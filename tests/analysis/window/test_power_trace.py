import polars as pl
import pytest

from runner.analysis.window.power_trace import MAX_POINTS, find_phases, thin_power
from runner.results.tables import POWER, REQUESTS

START_NS = 1_800_000_000_000_000_000


def power(values):
    rows = [{"time_ns": START_NS + 20_000_000 * i, "power_w": value} for i, value in enumerate(values)]
    return pl.DataFrame(rows, schema=POWER)


def test_a_short_trace_stays_as_it_is():
    trace = thin_power(power([100.0, None, 300.0]), START_NS)
    assert trace.rows() == [(0.0, 100.0, 100.0, 100.0), (pytest.approx(0.04), 300.0, 300.0, 300.0)]


def test_a_long_trace_is_thinned_and_keeps_its_peak_and_its_mean():
    values = [200.0] * 29_999 + [700.0]
    trace = thin_power(power(values), START_NS)
    assert trace.height == MAX_POINTS
    assert trace["greatest_w"].max() == 700.0
    assert trace["mean_w"].mean() == pytest.approx(sum(values) / len(values))
    assert trace["time_s"].is_sorted()


def request(scheduled_s, first_s, last_s):
    return {
        "scheduled_ns": START_NS + int(scheduled_s * 1e9),
        "first_token_ns": START_NS + int(first_s * 1e9),
        "last_token_ns": START_NS + int(last_s * 1e9),
    }


def test_stretches_are_called_by_what_went_on_in_them():
    rows = [request(0.0, 1.0, 3.0), request(2.0, 3.0, 3.0), request(3.5, 4.0, 4.0)]
    phases = find_phases(pl.DataFrame(rows, schema=REQUESTS), START_NS, START_NS + 5_000_000_000)
    assert phases.rows() == [
        ("prefill", 0.0, pytest.approx(1.0)),
        ("decode", pytest.approx(1.0), pytest.approx(2.0)),
        ("both", pytest.approx(2.0), pytest.approx(3.0)),
        ("prefill", pytest.approx(3.5), pytest.approx(4.0)),
    ]


def test_without_times_nothing_is_said():
    assert find_phases(pl.DataFrame([{"trial_id": "x"}], schema=REQUESTS), START_NS, START_NS + 10**9).is_empty()
