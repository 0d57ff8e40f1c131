"""One trial in virtual time, compared with what the simulated GPU did."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runner.analysis.window.trial_row import analyse_trial
from runner.execution.worker.trial.measure import InterruptedTrialError
from runner.execution.worker.trial.settle import SETTLE_LIMIT_S
from runner.hardware.gpu import GpuLostError, NotSupportedError, PowerReading, ThrottleTimes
from runner.hardware.sensors.sampler import PowerSampler
from runner.inference.engine import EngineError
from runner.physics.gpu_model import load_gpu_model
from runner.spec.operating_point import OperatingPoint
from runner.tasks.features.tokens import token_entropy_bits
from runner.timebase import VirtualTime
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

CLOCKS_MHZ = (345, 510, 660, 810, 990, 1200, 1410, 1605, 1800, 1980)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[VirtualContext]:
    with open_context(tmp_path) as opened:
        yield opened


def test_trace_counter_and_truth_agree(context: VirtualContext) -> None:
    measurement = context.measure(make_requests(), {"sm_clock_mhz_requested": 1200})
    row = analyse_trial(measurement).row
    truth_j = context.exact_energy_j(measurement.start_ns, measurement.end_ns)
    assert row["energy_source"] == "trace"
    assert row["energy_j"] == pytest.approx(truth_j, rel=0.01)
    assert row["energy_counter_j"] == pytest.approx(truth_j, rel=0.01)
    assert row["counter_interval_trace_j"] == pytest.approx(row["counter_interval_j"], rel=0.01)
    assert row["verdicts"] == []


def test_the_window_holds_every_request_and_the_trace_reaches_over_its_edges(context: VirtualContext) -> None:
    measurement = context.measure(make_requests(), min_window_s=5.0)
    assert 5.0 <= (measurement.end_ns - measurement.start_ns) * 1e-9 < 8.0
    for completion in measurement.completions:
        assert measurement.start_ns <= completion.queued_ns < completion.last_token_ns <= measurement.end_ns
    samples = measurement.power.drop_nulls("power_w")["time_ns"]
    assert measurement.counter_start.time_ns < measurement.start_ns
    assert measurement.end_ns < measurement.counter_end.time_ns
    assert samples.min() < measurement.counter_start.time_ns
    assert samples.max() > measurement.counter_end.time_ns
    # Kept around the window, and not the whole trial with its settling and warm-up.
    assert samples.min() > measurement.counter_start.time_ns - 330_000_000


def test_each_prompt_comes_with_the_entropy_of_its_tokens(context: VirtualContext) -> None:
    requests = make_requests(num_requests=8)
    measurement = context.measure(requests)
    known = measurement.prompt_token_entropy_bits
    assert known == {request.request_id: token_entropy_bits(request) for request in requests}
    assert {completion.request_id for completion in measurement.completions} == known.keys()


def test_the_clock_that_was_asked_for_is_the_clock_that_ran(context: VirtualContext) -> None:
    asked = {"sm_clock_mhz_requested": 810, "mem_clock_mhz_requested": 2201, "power_limit_w_requested": 500.0}
    row = analyse_trial(context.measure(make_requests(), asked)).row
    assert (row["sm_clock_mhz"], row["sm_clock_mhz_p05"], row["mem_clock_mhz"]) == (810.0, 810.0, 2201.0)
    assert context.gpu.read_power_limit_w() == 500.0
    assert row["verdicts"] == []
    # The next trial at the default is at the default again.
    row = analyse_trial(context.measure(make_requests())).row
    assert (row["sm_clock_mhz"], row["mem_clock_mhz"]) == (1980.0, 3201.0)
    assert context.gpu.read_power_limit_w() == 700.0


def test_a_limit_that_overrules_the_clock_is_a_verdict(context: VirtualContext) -> None:
    prefill = make_requests(num_prompt_tokens=3000, num_output_tokens=1)
    row = analyse_trial(context.measure(prefill, {"sm_clock_mhz_requested": 1980, "concurrency": 4})).row
    assert row["verdicts"] == ["clock_not_held", "power_capped"]
    assert row["throttled_fraction"] > 0.5


def test_a_window_too_short_for_the_trace_is_a_verdict(context: VirtualContext) -> None:
    row = analyse_trial(context.measure(make_requests(num_requests=16), min_window_s=0.0)).row
    assert row["duration_s"] < 2.0
    assert "window_too_short" in row["verdicts"]


def test_prompts_are_repeated_in_whole_rounds_until_the_window_is_long_enough(context: VirtualContext) -> None:
    requests = make_requests(num_requests=13)
    measurement = context.measure(requests, min_window_s=4.0)
    assert (measurement.end_ns - measurement.start_ns) * 1e-9 >= 4.0
    rounds = Counter(completion.sample_id for completion in measurement.completions)
    assert len(rounds) == 13
    num_rounds = set(rounds.values())
    assert len(num_rounds) == 1
    assert num_rounds.pop() > 1
    one = context.measure(requests, min_window_s=0.0)
    assert [(c.round, c.row_id[-2:]) for c in one.completions] == [(0, "#0")] * 13


def test_warm_up_is_outside_the_window(context: VirtualContext) -> None:
    phases: list[tuple[str, int]] = []
    measurement = context.measure(
        make_requests(),
        num_warmup_requests=20,
        on_phase=lambda phase: phases.append((phase, context.time_source.now_ns())),
    )
    assert [phase for phase, _ in phases] == ["settling", "warming up", "measuring"]
    warmed_s = (phases[2][1] - phases[1][1]) * 1e-9
    assert warmed_s > 0.3
    assert measurement.start_ns >= phases[2][1]


def test_progress_is_told_while_the_window_is_open(context: VirtualContext) -> None:
    told: list[tuple[int, int]] = []
    measurement = context.measure(make_requests(), on_progress=lambda *counts: told.append(counts))
    assert len(told) > 5
    assert told == sorted(told)
    assert told[-1][0] <= len(measurement.completions)


def test_cancelling_gives_the_trial_up_and_starts_no_further_request(context: VirtualContext) -> None:
    def is_interrupted() -> bool:
        return context.time_source.now_ns() > cancel_ns

    cancel_ns = context.time_source.now_ns() + 2_000_000_000
    with pytest.raises(InterruptedTrialError):
        context.measure(make_requests(), min_window_s=100.0, is_interrupted=is_interrupted)
    # What is in flight drains; a request takes about half a second here.
    assert (context.time_source.now_ns() - cancel_ns) * 1e-9 < 2.0
    assert context.measure(make_requests()).completions


def test_what_is_not_finished_by_the_deadline_failed(context: VirtualContext) -> None:
    row = analyse_trial(context.measure(make_requests(), min_window_s=100.0, deadline_s=3.0)).row
    assert row["duration_s"] == pytest.approx(3.0, abs=0.1)
    assert row["num_failed_requests"] == 8
    assert row["verdicts"] == ["requests_failed"]


def test_an_engine_that_keeps_its_prefix_cache_is_noted(
    context: VirtualContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert context.measure(make_requests()).prefix_cache_reset
    monkeypatch.setattr(context.context.engine, "reset_prefix_cache", lambda: False)
    assert not context.measure(make_requests()).prefix_cache_reset


# settling ------------------------------------------------------------------------------------------------------------


def test_the_warm_up_lasts_until_readings_under_load_show_the_clock(context: VirtualContext) -> None:
    began: dict[str, int] = {}
    for clock_mhz in (345, 1410, 990):
        identity = {"sm_clock_mhz_requested": clock_mhz}
        measurement = context.measure(
            make_requests(num_output_tokens=8),
            identity,
            num_warmup_requests=0,
            idle_power_w=100.0,  # known, so that nothing but the warm-up lies before the window
            on_phase=lambda phase: began.__setitem__(phase, context.time_source.now_ns()),
        )
        assert measurement.settle_s is not None
        # 60 ms until the GPU follows, and a reading each 100 ms of what the driver refreshes each 100 ms.
        assert 0.06 < measurement.settle_s <= 0.3
        warmup_s = (began["measuring"] - began["warming up"]) * 1e-9
        assert measurement.settle_s + 0.2 <= warmup_s < measurement.settle_s + 0.6  # three readings, and the drain
        row = analyse_trial(measurement).row
        assert (row["sm_clock_mhz_p05"], row["sm_clock_below_fraction"], row["verdicts"]) == (clock_mhz, 0.0, [])


def test_a_memory_clock_is_waited_for_too(context: VirtualContext) -> None:
    assert context.measure(make_requests(), {"mem_clock_mhz_requested": 2201}).settle_s is not None


def test_the_gpus_default_is_not_waited_for(context: VirtualContext) -> None:
    context.measure(make_requests(), {"sm_clock_mhz_requested": 345})
    began: dict[str, int] = {}
    measurement = context.measure(
        make_requests(),
        num_warmup_requests=0,
        idle_power_w=100.0,
        on_phase=lambda phase: began.__setitem__(phase, context.time_source.now_ns()),
    )
    assert measurement.settle_s is None
    assert began["measuring"] == began["warming up"]


def test_a_clock_that_never_comes_is_waited_for_only_so_long(
    context: VirtualContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context.context.lease, "apply", lambda _: None)  # the request is taken, and nothing happens
    began: dict[str, int] = {}
    measurement = context.measure(
        make_requests(num_output_tokens=8),
        {"sm_clock_mhz_requested": 1200},
        num_warmup_requests=0,
        idle_power_w=100.0,
        on_phase=lambda phase: began.__setitem__(phase, context.time_source.now_ns()),
    )
    warmup_s = (began["measuring"] - began["warming up"]) * 1e-9
    assert SETTLE_LIMIT_S <= warmup_s < SETTLE_LIMIT_S + 0.5
    row = analyse_trial(measurement).row
    assert (row["settle_s"], row["sm_clock_mhz"]) == (None, 1980.0)
    assert "clock_not_held" in row["verdicts"]


# edges ---------------------------------------------------------------------------------------------------------------


def test_the_edges_are_read_outside_the_window(context: VirtualContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thermal counter runs all the time. A window counts its own duration and the two ticks at its edges."""
    read_ns: list[int] = []

    def read_throttle_times() -> ThrottleTimes:
        read_ns.append(context.time_source.now_ns())
        return ThrottleTimes(power_s=None, thermal_s=context.time_source.now_ns() * 1e-9, other_s=None)

    monkeypatch.setattr(context.gpu, "read_throttle_times", read_throttle_times)
    measurement = context.measure(make_requests())
    row = analyse_trial(measurement).row
    assert row["duration_s"] < row["throttled_thermal_s"] < row["duration_s"] + 0.3
    assert (row["throttled_power_s"], row["throttled_other_s"]) == (None, None)
    assert row["verdicts"] == ["thermal_throttled"]
    assert len(read_ns) == 2
    assert read_ns[0] <= measurement.start_ns
    assert measurement.end_ns <= read_ns[1]


def test_a_limit_that_is_put_back_in_the_window_is_seen(context: VirtualContext) -> None:
    def revert(num_requests: int, _: int) -> None:
        if num_requests:
            context.gpu.apply(OperatingPoint(power_limit_w=700.0))

    asked = {"power_limit_w_requested": 400.0}
    row = analyse_trial(context.measure(make_requests(), asked, on_progress=revert)).row
    assert (row["power_limit_w"], row["verdicts"]) == (700.0, ["limit_reverted"])
    row = analyse_trial(context.measure(make_requests(), asked)).row
    assert (row["power_limit_w"], row["persistence_mode"], row["verdicts"]) == (400.0, True, [])


def test_a_driver_that_lists_no_processes_accuses_nobody(
    context: VirtualContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> list[int]:
        raise NotSupportedError("nvmlDeviceGetComputeRunningProcesses: not supported")

    monkeypatch.setattr(context.gpu, "read_process_ids", refuse)
    measurement = context.measure(make_requests())
    assert measurement.edge_start.process_ids is None
    assert analyse_trial(measurement).row["verdicts"] == []


def test_a_dead_engine_is_an_error(context: VirtualContext) -> None:
    context.context.engine.close()
    with pytest.raises(EngineError):
        context.measure(make_requests())


def test_a_gpu_lost_during_the_window_is_an_error_and_no_row(
    context: VirtualContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_ns = context.time_source.now_ns() + 2_000_000_000
    read = context.gpu.read_power_samples

    def read_until_lost(after_ns: int) -> list[PowerReading]:
        if context.time_source.now_ns() > lost_ns:
            raise GpuLostError("the GPU fell off the bus")
        return read(after_ns)

    monkeypatch.setattr(context.gpu, "read_power_samples", read_until_lost)
    with pytest.raises(GpuLostError, match="fell off the bus"):
        context.measure(make_requests())


def test_batches_nobody_took_are_an_error_and_no_row(tmp_path: Path) -> None:
    def refuse(_: object) -> None:
        raise ConnectionError("the aggregator is gone")

    with (
        open_context(tmp_path, on_batch=refuse) as context,
        pytest.raises(ConnectionError, match="the aggregator is gone"),
    ):
        context.measure(make_requests())


def test_without_a_counter_the_trace_stands_alone(context: VirtualContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.context.sampler, "mark_counter_tick", lambda: None)
    measurement = context.measure(make_requests())
    row = analyse_trial(measurement).row
    assert row["energy_j"] == pytest.approx(context.exact_energy_j(measurement.start_ns, measurement.end_ns), rel=0.01)
    assert row["energy_counter_j"] is None
    assert row["verdicts"] == []


def test_idle_power_is_what_the_gpu_draws_between_requests_at_the_trials_own_clock(context: VirtualContext) -> None:
    for clock_mhz in (None, 345, 1200):
        row = analyse_trial(context.measure(make_requests(), {"sm_clock_mhz_requested": clock_mhz})).row
        assert row["idle_power_w"] == pytest.approx(load_gpu_model().idle_power_w(clock_mhz), rel=1e-3)
        assert row["energy_above_idle_j"] == pytest.approx(row["energy_j"] - row["idle_power_w"] * row["duration_s"])
        assert row["verdicts"] == []


@pytest.mark.parametrize("profile", ["average-only", "counter-only", "a100"])
def test_idle_power_is_known_to_gpus_with_other_sensors(profile: str, tmp_path: Path) -> None:
    with open_context(tmp_path, gpu_request=f"sim:h200+{profile}") as context:
        measurement = context.measure(make_requests(), {"sm_clock_mhz_requested": 345})
    # A moving average must have forgotten the warm-up: it drew three times as much.
    assert measurement.idle_power_w == pytest.approx(load_gpu_model().idle_power_w(345), rel=0.01)


def test_idle_power_is_watched_at_the_first_visit_of_each_point(
    context: VirtualContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[int | None] = []

    def watch(sampler: PowerSampler, time_source: VirtualTime) -> float | None:
        watched.append(context.gpu.read_state().sm_clock_mhz)
        return None if len(watched) == 1 else 100.0

    monkeypatch.setattr("runner.execution.worker.trial.measure.measure_idle_power", watch)
    for clock_mhz in (345, 345, 1200, 345, 1200, None):
        context.measure(make_requests(num_requests=8), {"sm_clock_mhz_requested": clock_mhz}, min_window_s=0.0)
    assert watched == [345, 345, 1200, 1980]  # the first time nothing was read


def test_the_trace_still_reaches_over_the_windows_edges_when_idle_power_was_watched(context: VirtualContext) -> None:
    for clock_mhz in range(345, 1500, 105):
        row = analyse_trial(context.measure(make_requests(), {"sm_clock_mhz_requested": clock_mhz})).row
        assert row["counter_interval_trace_j"] is not None
        assert row["verdicts"] == []


# curves --------------------------------------------------------------------------------------------------------------


def sweep_clocks(
    context: VirtualContext, num_prompt_tokens: int, num_output_tokens: int
) -> tuple[list[float], list[float]]:
    """Return seconds and joules of one round of requests at each of `CLOCKS_MHZ`."""
    requests = make_requests(num_prompt_tokens, num_output_tokens, num_requests=24)
    durations_s, energies_j = [], []
    for clock_mhz in CLOCKS_MHZ:
        identity = {"sm_clock_mhz_requested": clock_mhz}
        row = analyse_trial(context.measure(requests, identity, min_window_s=0.0)).row
        durations_s.append(row["duration_s"])
        energies_j.append(row["energy_j"])
    return durations_s, energies_j


def best_clock(energies_j: list[float]) -> int:
    return CLOCKS_MHZ[energies_j.index(min(energies_j))]


def test_a_lower_clock_costs_time_and_energy_has_its_minimum_inside(tmp_path: Path) -> None:
    with open_context(tmp_path, shape="qwen2.5-32b") as context:
        prefill_s, prefill_j = sweep_clocks(context, 2000, 1)
        decode_s, decode_j = sweep_clocks(context, 32, 128)
    for durations_s in (prefill_s, decode_s):
        for slower_s, faster_s in pairwise(durations_s):
            assert faster_s <= slower_s * 1.01
    assert CLOCKS_MHZ[0] < best_clock(prefill_j) < CLOCKS_MHZ[-1]
    assert best_clock(decode_j) <= best_clock(prefill_j)
    # Waiting for compute, prefill slows down almost with the clock; decoding, waiting for memory, does not.
    half = CLOCKS_MHZ.index(990)
    assert prefill_s[half] / prefill_s[-1] > 1.3
    assert decode_s[half] / decode_s[-1] < 1.2
