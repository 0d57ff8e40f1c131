"""Trials whose requests arrive at a rate, in virtual time, against the simulated GPU's true energy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.analysis.window.trial_row import AnalysedTrial, analyse_trial
from runner.inference.arrivals import draw_times
from runner.results.measurement import Measurement
from runner.spec.load import OpenLoop, Replay
from runner.spec.serving.slo import Slo
from runner.spec.serving.trace import Trace
from runner.tasks.synthetic import SyntheticTask
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

SLO = Slo.model_validate({"ttft": "200 ms", "tpot": "20 ms"})
REQUESTS = make_requests(512, 128, 100)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualContext]:
    with open_context(tmp_path_factory.mktemp("open")) as opened:
        yield opened


def measure(context: VirtualContext, rate_per_s: float, **options: object) -> tuple[Measurement, AnalysedTrial]:
    identity = {"load": OpenLoop(request_rate_per_s=rate_per_s), "slo": SLO} | options.pop("identity", {})  # type: ignore[operator]
    measurement = context.measure(REQUESTS, identity, **{"min_window_s": 10.0, "ramp_s": 3.0, "seed": 5} | options)
    return measurement, analyse_trial(measurement)


@pytest.mark.parametrize("rate_per_s", [5.0, 20.0])
def test_the_energy_of_the_window_is_true_and_belongs_to_somebody(context: VirtualContext, rate_per_s: float) -> None:
    measurement, analysed = measure(context, rate_per_s)
    row, true_j = analysed.row, context.exact_energy_j(measurement.start_ns, measurement.end_ns)
    assert row["verdicts"] == []
    assert row["energy_j"] == pytest.approx(true_j, rel=2e-3)
    assert analysed.requests["energy_j"].sum() + row["unattributed_energy_j"] == pytest.approx(row["energy_j"])
    assert row["joules_per_good_request"] * row["good_requests_per_s"] * row["duration_s"] == pytest.approx(
        row["energy_j"]
    )


def test_requests_arrive_when_they_were_drawn_and_are_counted_once(context: VirtualContext) -> None:
    measurement, analysed = measure(context, 20.0)
    counted = measurement.counted
    assert analysed.row["num_requests"] == len(counted) == 200
    assert analysed.row["arrivals_per_s"] == pytest.approx(20.0)
    arrived_s = sorted(((c.queued_ns or 0) - measurement.start_ns) * 1e-9 for c in counted)
    assert arrived_s == pytest.approx(draw_times(200, 20.0, 1.0, seed=5).tolist(), abs=1e-8)
    assert sorted(c.request_id for c in counted) == sorted(2 * [request.request_id for request in REQUESTS])
    straddling = [c for c in measurement.completions if not c.in_window]
    assert straddling
    assert all((c.queued_ns or 0) <= measurement.start_ns < (c.last_token_ns or 0) for c in straddling)
    assert analysed.requests["in_window"].sum() == 200


def test_arrivals_are_the_same_at_every_operating_point(context: VirtualContext) -> None:
    fast, _ = measure(context, 20.0)
    slow, analysed = measure(context, 20.0, identity={"sm_clock_mhz_requested": 990})
    gaps = [
        [(c.queued_ns or 0) - m.start_ns for c in sorted(m.counted, key=lambda c: c.queued_ns or 0)]
        for m in (fast, slow)
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=2)
    assert analysed.row["sm_clock_mhz"] == 990


def test_little_idle_time_is_known_and_costs_idle_power(context: VirtualContext) -> None:
    _, analysed = measure(context, 0.5, min_window_s=1.0)
    row = analysed.row
    assert 0.2 < row["busy_fraction"] < 0.4
    idle_s = (1 - row["busy_fraction"]) * row["duration_s"]
    assert row["idle_energy_j"] / idle_s == pytest.approx(row["idle_power_w"], rel=0.02)


def test_more_than_can_be_served_is_a_finding_and_ends(context: VirtualContext) -> None:
    measurement, analysed = measure(context, 200.0)
    assert "overloaded" in analysed.row["verdicts"]
    assert analysed.row["slo_attainment_fraction"] < 0.5
    assert analysed.row["requests_per_s"] < 100
    assert analysed.row["num_requests"] == len(measurement.counted) == 2000


def test_a_request_that_does_not_end_is_followed_no_longer_than_the_limit(context: VirtualContext) -> None:
    long = make_requests(512, 3000, 100)
    identity = {"load": OpenLoop(request_rate_per_s=200.0), "slo": SLO}
    measurement = context.measure(long, identity, min_window_s=2.0, ramp_s=0.0)
    row = analyse_trial(measurement).row
    assert {"overloaded", "requests_failed"} <= set(row["verdicts"])
    assert row["slo_attainment_fraction"] == 0.0
    assert row["joules_per_good_request"] is None


def test_percentiles_of_few_requests_are_unknown(context: VirtualContext) -> None:
    few, many = (measure(context, 10.0, min_window_s=seconds)[1].row for seconds in (10.0, 20.0))
    assert (few["num_requests"], few["ttft_s_p99"]) == (100, None)
    assert many["num_requests"] == 200
    assert many["ttft_s_p95"] < many["ttft_s_p99"]


def test_an_interrupt_ends_a_run_before_its_window_does(context: VirtualContext, tmp_path: Path) -> None:
    from runner.execution.worker.trial.measure import InterruptedTrialError

    asked = 0

    def is_interrupted() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60

    with pytest.raises(InterruptedTrialError):
        measure(context, 10.0, is_interrupted=is_interrupted)


def test_a_trace_is_replayed_as_it_was_recorded(context: VirtualContext) -> None:
    arrival_s = (0.0, 0.5, 1.0, 2.5, 2.6, 4.0)
    prompts, outputs = (100, 200, 300, 400, 500, 600), (10, 20, 30, 40, 50, 60)
    trace = Trace(arrival_s=arrival_s, num_prompt_tokens=prompts, num_output_tokens=outputs, duration_s=4.0, digest="d")
    task = SyntheticTask(num_prompt_tokens=prompts, num_output_tokens=outputs, num_requests=6, seed=0)
    requests = task.requests(None, max_model_len=4096, vocab_size=32000)
    identity = {"load": Replay(request_rate_per_s=1.5), "slo": SLO}
    measurement = context.measure(requests, identity, trace=trace, ramp_s=0.75)
    counted = sorted(measurement.counted, key=lambda c: c.queued_ns or 0)
    arrived_s = [((c.queued_ns or 0) - measurement.start_ns) * 1e-9 for c in counted]
    assert arrived_s == pytest.approx([0.25, 1.75, 1.85, 3.25], abs=1e-8)
    assert [c.num_prompt_tokens for c in counted] == [300, 400, 500, 600]
    assert [c.num_output_tokens for c in counted] == [30, 40, 50, 60]
    row = analyse_trial(measurement).row
    assert (row["num_requests"], row["burstiness"], row["concurrency"]) == (4, None, None)
    assert row["duration_s"] == pytest.approx(3.25)
    assert row["slo_attainment_fraction"] == 1.0
