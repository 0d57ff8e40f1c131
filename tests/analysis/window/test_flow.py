"""The flow of requests through an open loop's window, computed on paper."""

from dataclasses import asdict
from typing import Any

import pytest

from runner.analysis.window.flow import Flow, describe_flow, mean_in_system
from runner.results.measurement import Measurement
from runner.spec.load import OpenLoop
from tests.analysis.measurements import make_completion, make_measurement, make_power

OPEN: dict[str, Any] = {"load": OpenLoop(request_rate_per_s=0.5)}


def make_open_measurement(**changes: Any) -> Measurement:
    """Ten seconds at 500 W. One request straddles each edge, two lie inside, and from 5 s to 8 s there is none."""
    completions = [
        make_completion("before", -1.0, -0.5, 2.0, in_window=False),
        make_completion("a", 1.0, 2.5, 3.0, scheduled_ns=None, arrival_lateness_s=0.001),
        make_completion("b", 2.0, 4.0, 5.0, arrival_lateness_s=0.003),
        make_completion("after", 8.0, 11.0, 12.0, arrival_lateness_s=0.002),
    ]
    return make_measurement(completions, 10.0, identity=OPEN, **changes)


def test_what_arrived_what_waited_and_when_the_gpu_had_nothing_to_do() -> None:
    flow = describe_flow(make_open_measurement(), 5000.0)
    assert flow.arrivals_per_s == pytest.approx(0.3)
    assert flow.queue_length_mean == pytest.approx(0.2)  # "a" waited from 1 s to its end at 3 s
    assert flow.queue_growth == 0.0  # one at each edge
    assert flow.busy_fraction == pytest.approx(0.7)
    assert flow.idle_energy_j == pytest.approx(1500.0)
    assert flow.arrival_lateness_s_p95 == pytest.approx(0.0029)


def test_the_mean_number_in_the_system_counts_seconds_inside_the_edges() -> None:
    assert mean_in_system(make_open_measurement()) == pytest.approx((2 + 2 + 3 + 2) / 10)
    assert mean_in_system(make_measurement([], 10.0, identity=OPEN)) is None


def test_a_request_that_never_ended_is_in_the_system_until_the_end() -> None:
    stuck = make_completion("stuck", 4.0, 0, 0, first_token_ns=None, last_token_ns=None, scheduled_ns=None, error="x")
    flow = describe_flow(make_measurement([stuck], 10.0, identity=OPEN), 5000.0)
    assert (flow.queue_growth, flow.queue_length_mean, flow.busy_fraction) == pytest.approx((1.0, 0.6, 0.6))


def test_a_window_without_a_request_is_idle() -> None:
    flow = describe_flow(make_measurement([], 10.0, identity=OPEN), 5000.0)
    assert (flow.busy_fraction, flow.idle_energy_j) == pytest.approx((0.0, 5000.0))
    assert flow.arrival_lateness_s_p95 is None


def test_without_a_trace_the_idle_energy_is_unknown() -> None:
    assert describe_flow(make_open_measurement(power=make_power(None, 10.0)), 5000.0).idle_energy_j is None
    assert describe_flow(make_open_measurement(), None).idle_energy_j is None


def test_a_closed_loop_has_no_arrivals() -> None:
    flow = describe_flow(make_measurement([make_completion("a", 0, 1, 2)], 3.0), 1500.0)
    assert asdict(flow) == dict.fromkeys(asdict(Flow()))
