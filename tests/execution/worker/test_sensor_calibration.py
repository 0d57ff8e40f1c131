"""What a worker learns about its sensors under the first load, and whether it is right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.analysis.energy.account import account_energy
from runner.execution.worker.sensor_calibration import watch_first_load
from runner.execution.worker.trial.measure import InterruptedTrialError
from runner.execution.worker.trial.procedure import Procedure
from runner.hardware.gpu import GpuLostError
from runner.hardware.simulated.sensor_profiles import PROFILES
from runner.inference.engine import Sampling
from runner.results.sensors import SensorFindings
from runner.spec.load import ClosedLoop
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

PROCEDURE = Procedure(sampling=Sampling(), min_window_s=3.0, num_warmup_requests=4, deadline_s=600.0)


def learn(gpu: VirtualContext, *, concurrency: int = 8, **options: Any) -> SensorFindings:
    """Watch a first load that is out of step with the sensors, as real engines are."""
    gpu.time_source.sleep(1.0137)
    at_rest = gpu.context.sampler.sensors
    assert at_rest is not None
    return watch_first_load(
        gpu.context, make_requests(), ClosedLoop(concurrency=concurrency), PROCEDURE, at_rest, **options
    )


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("profile", ["volta", "a100", "rtx3090", "rtx5090", "h100", "h200", "average-only"])
def test_what_is_found_is_so_and_no_wider_than_two_periods(tmp_path: Path, profile: str, concurrency: int) -> None:
    """An averaging window that another sensor resolves is found exactly. A shorter one is bounded by two periods."""
    with open_context(tmp_path, gpu_request=f"sim:h200+{profile}") as gpu:
        found = learn(gpu, concurrency=concurrency).sensors
    resolves_s = 0.02 if PROFILES[profile].samples else 0.1 if PROFILES[profile].counter else None
    for name in ("samples", "instant", "average"):
        habit, finding = getattr(PROFILES[profile], name), found[name]
        assert finding.supported == (habit is not None)
        if habit is None:
            continue
        window_s, period_s = habit.window_ns * 1e-9, habit.period_ns * 1e-9
        assert finding.update_period_s == pytest.approx(period_s, rel=0.01)
        if resolves_s is not None and window_s > resolves_s:
            assert finding.averaging_window_s == window_s
        elif resolves_s is None:
            assert (finding.averaging_window_s, finding.averaging_window_max_s) == (None, None)
            assert finding.reason
        else:
            assert finding.averaging_window_s is None
            assert finding.averaging_window_max_s is not None
            assert 0.99 * window_s <= finding.averaging_window_max_s <= 2.02 * period_s
            assert finding.reason


@pytest.mark.parametrize(("profile", "share"), [("h100", 0.1), ("h200", 0.1), ("volta", 0.1), ("a100", None)])
def test_a_counter_is_seen_to_see_all_where_something_finer_or_blinder_shows_it(
    tmp_path: Path, profile: str, share: float | None
) -> None:
    with open_context(tmp_path, gpu_request=f"sim:h200+{profile}") as gpu:
        counter = learn(gpu).sensors["counter"]
    assert counter.averaging_window_s == (share if share is None else pytest.approx(share, rel=0.01))
    assert (counter.reason is None) == (share is not None)


def test_all_that_is_unknown_at_rest_stays_so_without_a_load(tmp_path: Path) -> None:
    class Lazy:
        """An engine that takes requests and draws no power."""

        def run(self, requests: Any, *_: Any, **__: Any) -> None:
            for _request in requests:
                gpu.time_source.sleep(0.05)

    with open_context(tmp_path, gpu_request="sim:h200+h100") as gpu:
        at_rest = gpu.context.sampler.sensors
        assert at_rest is not None
        context = replace(gpu.context, engine=Lazy())  # type: ignore[arg-type]
        found = watch_first_load(context, make_requests(), ClosedLoop(concurrency=8), PROCEDURE, at_rest)
    assert found == at_rest
    assert found.sensors["average"].averaging_window_s is None
    assert found.sensors["average"].reason


def test_what_is_learnt_narrows_the_interval_and_it_covers_the_truth(tmp_path: Path) -> None:
    """Without a sample buffer, the findings at rest do not tell whether the counter sees more than the readings."""
    with open_context(tmp_path, gpu_request="sim:h200+h100") as gpu:
        at_rest = gpu.context.sampler.sensors
        gpu.context.sampler.use(learn(gpu))
        measurement = gpu.measure(make_requests(num_output_tokens=16), min_window_s=12.0)
        truth_j = gpu.exact_energy_j(measurement.start_ns, measurement.end_ns)
    narrow, wide = (account_energy(one).energy for one in (measurement, replace(measurement, sensors=at_rest)))
    assert narrow.energy_uncertainty_j < 0.5 * wide.energy_uncertainty_j
    assert abs(narrow.energy_j - truth_j) <= narrow.energy_uncertainty_j


def test_nothing_is_watched_any_more_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_context(tmp_path, gpu_request="sim:h200+h100") as context:
        num_calls = 0
        read = context.gpu.read_average_power

        def count() -> Any:
            nonlocal num_calls
            num_calls += 1
            return read()

        monkeypatch.setattr(context.gpu, "read_average_power", count)
        learn(context)
        assert num_calls > 600
        num_calls = 0
        context.time_source.sleep(1.0)
        assert num_calls == 0
        with pytest.raises(InterruptedTrialError):
            learn(context, is_interrupted=lambda: True)
        num_calls = 0
        context.time_source.sleep(1.0)
        assert num_calls == 0


def test_a_gpu_that_is_lost_meanwhile_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_context(tmp_path, gpu_request="sim:h200+h100") as context:

        def lose() -> None:
            raise GpuLostError("gone")

        monkeypatch.setattr(context.gpu, "read_instant_power", lose)
        with pytest.raises(GpuLostError, match="gone"):
            learn(context)
