"""The remaining time: loads and trials take different times, and GPUs share them."""

import pytest

from runner.execution.driver.eta import RemainingTime
from runner.results.live import GpuPhase, GpuView, SweepView


def make_view(*phases: GpuPhase) -> SweepView:
    gpus = tuple(
        GpuView(gpu_uuid=f"GPU-{k}", label=str(k), name="H200", simulated=True, phase=phase)
        for k, phase in enumerate(phases)
    )
    return SweepView(name="s", simulated=True, run_directory="runs/s", num_trials=36, gpus=gpus)


class Run:
    """A run whose GPUs are in the given phases until the given number of seconds has passed."""

    def __init__(self) -> None:
        self.remaining, self.elapsed_s = RemainingTime(), 0.0

    def go_on(
        self, seconds: float, *phases: GpuPhase, num_done: int = 0, num_left: int = 0, num_models_waiting: int = 0
    ) -> float | None:
        for _ in range(10):
            self.elapsed_s += seconds / 10
            left_s = self.remaining.estimate(
                make_view(*phases),
                self.elapsed_s,
                num_done=num_done,
                num_left=num_left,
                num_models_waiting=num_models_waiting,
            )
        return left_s


def test_nothing_is_said_before_the_first_trial() -> None:
    assert Run().go_on(90.0, "loading") is None


def test_a_long_load_is_no_measure_of_trials() -> None:
    run = Run()
    run.go_on(90.0, "loading", num_left=36)
    assert run.go_on(12.0, "measuring", num_done=1, num_left=35) == pytest.approx(35 * 12.0)


def test_models_to_come_take_as_long_to_load_as_those_that_came() -> None:
    run = Run()
    run.go_on(60.0, "loading", num_left=20)
    run.go_on(100.0, "measuring", num_done=10, num_left=10, num_models_waiting=1)
    assert run.go_on(40.0, "loading", num_done=10, num_left=10) == pytest.approx(10 * 10.0)
    left_s = run.go_on(10.0, "warming up", num_done=11, num_left=9, num_models_waiting=2)
    assert left_s == pytest.approx(9 * 10.0 + 2 * 50.0)


def test_gpus_share_what_is_left() -> None:
    run = Run()
    run.go_on(60.0, "loading", "loading", num_left=20)
    left_s = run.go_on(50.0, "measuring", "settling", num_done=10, num_left=10, num_models_waiting=1)
    assert left_s == pytest.approx((10 * 10.0 + 60.0) / 2)
    left_s = run.go_on(10.0, "measuring", "lost", num_done=11, num_left=9)
    assert left_s == pytest.approx(9 * 10.0)


def test_idle_gpus_and_an_end_without_gpus_do_no_harm() -> None:
    run = Run()
    assert run.go_on(10.0, num_done=3, num_left=3) is None
    assert run.go_on(10.0, "idle", num_done=3, num_left=3) == 0.0
