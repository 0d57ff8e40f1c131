import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.hardware.simulated.history import GpuHistory
from runner.hardware.simulated.sensor_profiles import Habit
from runner.physics.gpu_model import AT_REST, StepParts, load_gpu_model
from runner.physics.gpu_state import Activity, GpuSettings, GpuState
from runner.spec.throttle import ThrottleReason

MS_NS = 1_000_000
NUM_STEPS = 500
COUNTER = Habit(period_ns=MS_NS, window_ns=MS_NS)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads change after every few instructions, as they seldom do by themselves."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def test_several_threads_read_the_same_energy(tmp_path: Path, eager_threads: None) -> None:
    model = load_gpu_model("h200")
    state = GpuState(tmp_path)
    state.change_settings(GpuSettings(time_ns=0, power_limit_w=700.0))
    history = GpuHistory(model, tmp_path, 0, COUNTER)
    is_over = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not is_over.is_set():
                history.counted_j(NUM_STEPS * 20 * MS_NS)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for k in range(NUM_STEPS):
        step = Activity(
            start_ns=k * 10 * MS_NS,
            end_ns=(k + 1) * 10 * MS_NS,
            power_w=500.0,
            sm_clock_mhz=1500.0,
            mem_clock_mhz=2619.0,
            throttle_reasons=ThrottleReason(0),
        )
        state.log_activity([step])
    is_over.set()
    for thread in threads:
        thread.join()
    assert not errors
    end_ns = NUM_STEPS * 10 * MS_NS
    assert history.counted_j(end_ns) == pytest.approx(500.0 * end_ns * 1e-9)


def test_a_step_that_names_no_memory_power_leaves_the_memory_at_rest(tmp_path: Path) -> None:
    model = load_gpu_model("h200")
    state = GpuState(tmp_path)
    state.change_settings(GpuSettings(time_ns=0, power_limit_w=700.0))
    history = GpuHistory(model, tmp_path, 0)
    state.log_activity(
        [
            Activity(
                start_ns=start_ns,
                end_ns=start_ns + 1000 * MS_NS,
                power_w=500.0,
                sm_clock_mhz=1500.0,
                mem_clock_mhz=3201.0,
                throttle_reasons=ThrottleReason(0),
                parts=parts,
            )
            for start_ns, parts in ((0, AT_REST), (1000 * MS_NS, StepParts(memory_power_w=145.0)))
        ]
    )
    assert history.part_sums(1000 * MS_NS).memory_j == pytest.approx(55.0)
    assert history.part_sums(2000 * MS_NS).memory_j == pytest.approx(200.0)
    assert history.part_sums(3000 * MS_NS).memory_j == pytest.approx(255.0)  # at rest again
    assert history.memory_mean_w(1500 * MS_NS, 1000 * MS_NS) == pytest.approx(100.0)
