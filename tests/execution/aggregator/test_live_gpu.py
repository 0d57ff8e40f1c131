"""One GPU in the live view."""

from typing import Any

import polars as pl
import pytest

from runner.execution.aggregator.live_gpu import LiveGpu
from runner.results.live import GpuView
from runner.results.tables import POWER
from runner.spec.load import ClosedLoop

START_NS = 1_795_000_000_000_000_000


def at(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def make_batch(second: int, power_w: float = 400.0, **state: Any) -> pl.DataFrame:
    """Make the readings of one second: power every 20 ms, and a state reading at the end."""
    rows: list[dict[str, Any]] = [{"time_ns": at(second + 0.02 * k), "power_w": power_w} for k in range(50)]
    rows.append({"time_ns": at(second + 0.995), "sm_clock_mhz": 1500, "temperature_c": 50.0} | state)
    return pl.DataFrame([dict.fromkeys(POWER) | {"gpu_uuid": "GPU-0"} | row for row in rows], schema=POWER)


@pytest.fixture
def gpu() -> LiveGpu:
    return LiveGpu(GpuView(gpu_uuid="GPU-0", label="0", name="H200", simulated=True))


def report(gpu: LiveGpu, *, now_s: float, start_s: float = 0.0, num_requests: int = 1, num_tokens: int = 0) -> None:
    gpu.report_progress(
        time_ns=at(now_s), window_start_ns=at(start_s), num_requests=num_requests, num_tokens=num_tokens
    )


def test_before_any_reading_everything_is_unknown(gpu: LiveGpu) -> None:
    view = gpu.draw()
    assert (view.power_w, view.sm_clock_mhz, view.temperature_c, view.joules_per_token) == (None,) * 4
    assert view.power_history_w == ()
    gpu.add_power(pl.DataFrame(schema=POWER))
    assert gpu.draw() == view


def test_power_is_the_mean_of_each_of_the_last_seconds_oldest_first(gpu: LiveGpu) -> None:
    for second in range(90):
        gpu.add_power(make_batch(second, 100.0 + second))
    history = gpu.draw().power_history_w
    assert len(history) == 60
    assert history == pytest.approx(tuple(100.0 + second for second in range(30, 90)), abs=0.05)
    assert gpu.draw().power_w == history[-1]


def test_clock_and_temperature_are_the_last_ones_read(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    gpu.add_power(make_batch(1, sm_clock_mhz=990, temperature_c=61.0))
    gpu.add_power(make_batch(2, sm_clock_mhz=None, temperature_c=None))
    view = gpu.draw()
    assert (view.sm_clock_mhz, view.temperature_c) == (990, 61.0)


def test_joules_per_token_of_the_open_window_so_far(gpu: LiveGpu) -> None:
    for second in range(4):
        gpu.add_power(make_batch(second))
    report(gpu, now_s=4.0, start_s=1.0, num_requests=6, num_tokens=600)
    view = gpu.draw()
    assert view.tokens_per_s == pytest.approx(200.0)
    assert view.joules_per_token == pytest.approx(400.0 / 200.0)
    assert view.num_requests_done == 6


def test_power_that_arrives_late_stands_for_the_second_that_is_missing(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    gpu.add_power(make_batch(1))
    report(gpu, now_s=3.0, num_tokens=300)
    assert gpu.draw().joules_per_token == pytest.approx(400.0 * 3.0 / 300)


def test_before_the_first_token_there_is_no_rate(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    report(gpu, now_s=1.0, num_tokens=0)
    assert (gpu.draw().tokens_per_s, gpu.draw().joules_per_token) == (None, None)


def test_a_window_longer_than_the_history_keeps_its_joules(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    report(gpu, now_s=1.0, num_tokens=100)
    for second in range(1, 100):
        gpu.add_power(make_batch(second, 400.0 if second < 50 else 200.0))
    report(gpu, now_s=100.0, num_tokens=10_000)
    view = gpu.draw()
    assert view.joules_per_token == pytest.approx(300.0 * 100 / 10_000, rel=0.01)
    assert len(view.power_history_w) == 60


def test_a_new_phase_closes_the_window(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    report(gpu, now_s=1.0, num_requests=3, num_tokens=100)
    gpu.update({"phase": "settling", "model": "m"})
    view = gpu.draw()
    assert (view.phase, view.model, view.num_requests_done) == ("settling", "m", 0)
    assert (view.tokens_per_s, view.joules_per_token) == (None, None)


def test_other_changes_leave_the_window_open(gpu: LiveGpu) -> None:
    gpu.add_power(make_batch(0))
    report(gpu, now_s=1.0, num_tokens=100)
    gpu.update({"sm_clock_mhz_requested": 990, "load": ClosedLoop(concurrency=8)})
    view = gpu.draw()
    assert (view.sm_clock_mhz_requested, view.tokens_per_s) == (990, pytest.approx(100.0))
    assert view.load == ClosedLoop(concurrency=8)


def test_trials_are_counted(gpu: LiveGpu) -> None:
    gpu.count_trial()
    gpu.count_trial()
    assert gpu.draw().num_trials_done == 2
