"""The simulated driver against closed forms, in virtual time."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import NotSupportedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.module import SimulatedNvml
from runner.hardware.simulated.sensor_profiles import PROFILES
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime

LOW_W, HIGH_W = 79.0, 124.0
BURST = ((0.0, 0.07, 600.0), (0.07, 0.03, 100.0))


class TrialContext:
    """One simulated H200, its time source and its state."""

    def __init__(self, state_dir: Path) -> None:
        self.time_source = VirtualTime()
        self.state_dir = state_dir
        self.nvml: SimulatedNvml = open_nvml("sim", self.time_source, state_dir)
        self.handle = self.nvml.nvmlDeviceGetHandleByIndex(0)
        self.gpu = NvmlGpu(self.nvml, 0, read_only=False)
        self.state = GpuState(state_dir / self.gpu.info.uuid)

    def work(
        self, power_w: float, seconds: float, *, at_ns: int | None = None, reasons: ThrottleReason = ThrottleReason.NONE
    ) -> None:
        """Log work from now, or from another instant on. Virtual time does not pass."""
        start_ns = self.time_source.now_ns() if at_ns is None else at_ns
        self.state.log_activity(
            [
                Activity(
                    start_ns=start_ns,
                    end_ns=start_ns + round(seconds * 1e9),
                    power_w=power_w,
                    sm_clock_mhz=1980,
                    mem_clock_mhz=3201,
                    throttle_reasons=reasons,
                )
            ]
        )

    def counter_mj(self) -> int:
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(tmp_path)


def test_constant_idle_power_integrates_exactly(context: TrialContext) -> None:
    context.time_source.sleep(1000.0)
    assert context.counter_mj() == 79_000_000


def test_step_integrates_exactly(context: TrialContext) -> None:
    context.time_source.sleep(1.0)
    context.work(600.0, 2.0)
    context.time_source.sleep(3.0)
    assert context.counter_mj() == (79 * 1 + 600 * 2 + 124 * 1) * 1000


def test_bursts_integrate_exactly_however_often_they_are_read(context: TrialContext, tmp_path: Path) -> None:
    for _ in range(50):
        context.work(700.0, 0.2)
        context.time_source.sleep(0.4)
        context.counter_mj()
    expected = 50 * 1000 * (700 * 0.2 + 124 * 0.2)
    assert context.counter_mj() == pytest.approx(expected, abs=1)
    assert (
        open_nvml("sim", context.time_source, tmp_path).nvmlDeviceGetTotalEnergyConsumption(
            open_nvml("sim", context.time_source, tmp_path).nvmlDeviceGetHandleByIndex(0)
        )
        == context.counter_mj()
    )


def test_counter_ticks_every_100_ms(context: TrialContext) -> None:
    context.work(500.0, 10.0)
    readings = []
    for _ in range(1000):
        context.time_source.sleep(0.001)
        readings.append(context.counter_mj())
    changes = [i for i in range(1, 1000) if readings[i] != readings[i - 1]]
    assert changes == [99 + 100 * i for i in range(10)][: len(changes)]
    assert sorted(set(readings)) == [50_000 * i for i in range(11)]


def test_buffer_holds_the_last_120_samples_20_ms_apart(context: TrialContext) -> None:
    context.work(300.0, 60.0)
    context.time_source.sleep(30.0)
    samples = context.gpu.read_power_samples(0)
    gaps_ms = [(b.time_ns - a.time_ns) / 1e6 for a, b in pairwise(samples)]
    assert len(samples) == 120
    assert {s.power_w for s in samples} == {300.0}
    assert 19.0 < min(gaps_ms) < max(gaps_ms) < 21.0
    assert len(set(gaps_ms)) > 10  # a real buffer is never quite regular
    assert all(s.time_ns % 1000 == 0 for s in samples)
    assert context.time_source.now_ns() - samples[-1].time_ns < 21_000_000


def test_draining_late_or_often_gives_the_same_samples(context: TrialContext) -> None:
    context.work(300.0, 1.3)
    drained: list[Any] = []
    for seconds in (0.013, 0.5, 0.02, 0.007, 1.0, 0.1):
        context.time_source.sleep(seconds)
        drained += context.gpu.read_power_samples(drained[-1].time_ns if drained else 0)
    assert drained == context.gpu.read_power_samples(0)
    assert context.gpu.read_power_samples(drained[-1].time_ns) == []


def test_samples_are_a_square_wave_whose_edges_lie_inside_one_sample(context: TrialContext) -> None:
    context.time_source.sleep(1.0)
    start_ns = context.time_source.now_ns()
    context.work(700.0, 0.2)
    context.time_source.sleep(0.5)
    num_between = 0
    for sample in context.gpu.read_power_samples(start_ns):
        since_s = (sample.time_ns - start_ns) * 1e-9
        if 0.02 <= since_s < 0.2:
            assert sample.power_w == 700.0
        elif since_s >= 0.22:
            assert sample.power_w == HIGH_W
        else:  # the mean of 20 ms with the load in a part of it
            num_between += 1
    assert num_between == 2


def test_the_average_takes_a_second_to_arrive(context: TrialContext) -> None:
    context.time_source.sleep(5.0)
    context.work(700.0, 10.0)
    context.time_source.sleep(0.5)
    assert context.nvml.nvmlDeviceGetPowerUsage(context.handle) == pytest.approx((79 + 700) / 2 * 1000, abs=1)
    context.time_source.sleep(0.5)
    assert context.nvml.nvmlDeviceGetPowerUsage(context.handle) == 700_000


def test_field_values_say_what_they_are(context: TrialContext) -> None:
    nvml = context.nvml
    context.work(400.0, 1.0)
    context.time_source.sleep(0.35)
    instant, unknown = nvml.nvmlDeviceGetFieldValues(context.handle, [nvml.NVML_FI_DEV_POWER_INSTANT, 9999])
    assert (instant.nvmlReturn, instant.valueType, instant.value.uiVal) == (0, 1, 400_000)
    assert unknown.nvmlReturn == nvml.NVML_ERROR_NOT_SUPPORTED


def test_idle_gpu_falls_to_its_lowest_clock_unless_it_is_locked(context: TrialContext) -> None:
    context.work(300.0, 1.0)
    context.time_source.sleep(10.0)
    assert context.gpu.read_state().sm_clock_mhz == 1980
    context.time_source.sleep(2.0)
    fallen = context.gpu.read_state()
    assert (fallen.sm_clock_mhz, fallen.throttle_reasons) == (345, ThrottleReason.IDLE)
    assert context.gpu.read_power_samples(0)[-1].power_w == LOW_W
    context.gpu.apply(OperatingPoint(sm_clock_mhz=1980))
    context.time_source.sleep(60.0)
    assert context.gpu.read_state().sm_clock_mhz == 1980
    assert context.gpu.read_power_samples(0)[-1].power_w == HIGH_W


def test_a_lock_takes_time_to_hold(context: TrialContext) -> None:
    context.time_source.sleep(1.0)
    context.gpu.apply(OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201))
    assert context.gpu.read_state().sm_clock_mhz == 345
    context.time_source.sleep(0.2)
    state = context.gpu.read_state()
    assert (state.sm_clock_mhz, state.mem_clock_mhz) == (1200, 2201)


def test_readings_under_a_cap_show_what_ran_and_why(context: TrialContext) -> None:
    context.work(700.0, 1.0, reasons=ThrottleReason.POWER_CAP)
    context.time_source.sleep(0.5)
    assert context.gpu.read_state().throttle_reasons == ThrottleReason.POWER_CAP


def test_locks_are_seen_by_other_processes_and_outlive_them(context: TrialContext) -> None:
    code = (
        "import sys; from pathlib import Path; from runner.hardware.factory import open_gpu; "
        "from runner.spec.operating_point import OperatingPoint; from runner.timebase import VirtualTime; "
        "gpu = open_gpu('sim', 0, VirtualTime(), read_only=False, state_dir=Path(sys.argv[1])); "
        "gpu.apply(OperatingPoint(sm_clock_mhz=900))"
    )
    subprocess.run([sys.executable, "-c", code, str(context.state_dir)], check=True, cwd=os.getcwd())
    context.time_source.sleep(1.0)
    assert context.gpu.read_state().sm_clock_mhz == 900


def test_incremental_reading_equals_reading_afresh(context: TrialContext, tmp_path: Path) -> None:
    for i in range(30):
        if i % 7 == 3:
            context.gpu.apply(OperatingPoint(sm_clock_mhz=345 + 15 * i))
        context.work(200.0 + i, 0.015 * (i % 4))
        context.time_source.sleep(0.01 * i)
        context.counter_mj()
    context.work(650.0, 0.5, at_ns=context.time_source.now_ns() - 30_000_000)  # logged late
    context.time_source.sleep(12.0)
    fresh = open_nvml("sim", context.time_source, tmp_path)
    assert context.counter_mj() == fresh.nvmlDeviceGetTotalEnergyConsumption(fresh.nvmlDeviceGetHandleByIndex(0))
    assert context.gpu.read_power_samples(0) == NvmlGpu(fresh, 0, read_only=True).read_power_samples(0)
    assert context.gpu.read_state() == NvmlGpu(fresh, 0, read_only=True).read_state()


def test_a_change_that_reaches_back_is_taken_in(context: TrialContext, tmp_path: Path) -> None:
    context.time_source.sleep(5.0)
    reader = NvmlGpu(open_nvml("sim", context.time_source, tmp_path), 0, read_only=True)
    context.work(300.0, 0.1)
    context.time_source.sleep(1.0)
    reader.read_energy_counter_j()
    other_time = VirtualTime(context.time_source.now_ns() - 4_000_000_000)  # another process wrote late
    NvmlGpu(open_nvml("sim", other_time, tmp_path), 0, read_only=False).apply(OperatingPoint(sm_clock_mhz=1980))
    fresh = NvmlGpu(open_nvml("sim", context.time_source, tmp_path), 0, read_only=True)
    assert reader.read_energy_counter_j() == fresh.read_energy_counter_j()


def test_temperature_follows_power_slowly(context: TrialContext) -> None:
    cold = context.gpu.read_state().temperature_c
    context.work(700.0, 600.0)
    context.time_source.sleep(5.0)
    soon = context.gpu.read_state().temperature_c
    context.time_source.sleep(300.0)
    late = context.gpu.read_state().temperature_c
    assert cold is not None
    assert soon is not None
    assert late is not None
    assert cold < soon < late < 90
    context.time_source.sleep(10.0)
    assert context.gpu.read_state().temperature_c == late


def test_settings_are_refused_where_the_driver_would(tmp_path: Path) -> None:
    nvml = SimulatedNvml("sim", VirtualTime(), tmp_path, may_set=False)
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    for call in (
        lambda: nvml.nvmlDeviceSetGpuLockedClocks(handle, 900, 900),
        lambda: nvml.nvmlDeviceResetGpuLockedClocks(handle),
        lambda: nvml.nvmlDeviceSetPowerManagementLimit(handle, 300_000),
    ):
        with pytest.raises(SimulatedNvmlError) as caught:
            call()
        assert caught.value.value == nvml.NVML_ERROR_NO_PERMISSION


def test_driver_rounds_clocks_down_and_checks_limits(context: TrialContext) -> None:
    context.nvml.nvmlDeviceSetGpuLockedClocks(context.handle, 907, 907)
    context.time_source.sleep(1.0)
    assert context.gpu.read_state().sm_clock_mhz == 900
    with pytest.raises(SimulatedNvmlError):
        context.nvml.nvmlDeviceSetPowerManagementLimit(context.handle, 100_000)


@pytest.mark.parametrize(("request_", "count"), [("sim", 1), ("sim:h200", 1), ("sim:h200x4", 4)])
def test_gpus_are_made_on_request(request_: str, count: int, tmp_path: Path) -> None:
    nvml = open_nvml(request_, VirtualTime(), tmp_path)
    gpus = [NvmlGpu(nvml, i, read_only=True).info for i in range(nvml.nvmlDeviceGetCount())]
    assert [gpu.uuid for gpu in gpus] == [f"GPU-SIM-H200-{i}" for i in range(count)]
    assert all(gpu.simulated and "Simulated" in gpu.name for gpu in gpus)


@pytest.mark.parametrize(
    ("request_", "uuids"),
    [
        ("sim:rtx5090", ["GPU-SIM-GEFORCE-RTX-5090-0"]),
        ("sim:h200+h200", ["GPU-SIM-H200-0"]),
        ("sim:h200+a100x2", ["GPU-SIM-H200-A100-0", "GPU-SIM-H200-A100-1"]),
        ("sim:rtx5090+counter-only", ["GPU-SIM-GEFORCE-RTX-5090-COUNTER-ONLY-0"]),
    ],
)
def test_gpus_are_made_with_sensors_of_any_kind(request_: str, uuids: list[str], tmp_path: Path) -> None:
    nvml = open_nvml(request_, VirtualTime(), tmp_path)
    assert [NvmlGpu(nvml, i, read_only=True).info.uuid for i in range(nvml.nvmlDeviceGetCount())] == uuids


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("sim:h200+nosuch", "volta, a100, rtx3090, rtx5090, h100, h200, counter-only, average-only"),
        ("sim:h200+", "SENSORS .* one of volta, a100"),
        ("sim:h200x2+a100", "there are h200, rtx5090"),
    ],
)
def test_a_request_that_cannot_be_met_says_what_there_is(request_: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_nvml(request_, VirtualTime(), tmp_path)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_lacks_is_not_supported(profile: str, tmp_path: Path) -> None:
    gpu = NvmlGpu(open_nvml(f"sim:h200+{profile}", VirtualTime(), tmp_path), 0, read_only=True)
    reads = {
        "samples": lambda: gpu.read_power_samples(0),
        "instant": gpu.read_instant_power,
        "average": gpu.read_average_power,
        "counter": gpu.read_energy_counter_j,
    }
    for sensor, read in reads.items():
        if getattr(PROFILES[profile], sensor) is None:
            with pytest.raises(NotSupportedError):
                read()
        else:
            read()


def test_an_a100_sees_the_last_quarter_of_each_period_and_its_counter_no_more(tmp_path: Path) -> None:
    """Bursts of 600 W in the first 70 ms of each 100 ms, and 100 W after: 450 W on average, of which it sees 100 W."""
    time_source = VirtualTime()
    nvml = open_nvml("sim:h200+a100", time_source, tmp_path)
    gpu, history = NvmlGpu(nvml, 0, read_only=True), nvml.nvmlDeviceGetHandleByIndex(0).history
    start_ns = time_source.now_ns()
    stretches = [(0.1 * k + offset_s, length_s, w) for k in range(20) for offset_s, length_s, w in BURST]
    GpuState(tmp_path / gpu.info.uuid).log_activity(
        Activity(
            start_ns=start_ns + round(at_s * 1e9),
            end_ns=start_ns + round((at_s + length_s) * 1e9),
            power_w=power_w,
            sm_clock_mhz=1410,
            mem_clock_mhz=3201,
            throttle_reasons=ThrottleReason.NONE,
        )
        for at_s, length_s, power_w in stretches
    )
    time_source.sleep(2.0)
    assert history.energy_j(time_source.now_ns()) == pytest.approx(900.0)
    assert gpu.read_average_power().power_w == pytest.approx(100.0)
    assert gpu.read_energy_counter_j() == pytest.approx(200.0)


@pytest.mark.parametrize("request_", ["sim:", "sim:x4", "sim:h200x0", "sim:nosuchboard"])
def test_requests_that_cannot_be_met(request_: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sim"):
        open_nvml(request_, VirtualTime(), tmp_path)


def test_a_clock_behind_the_gpu_is_refused(context: TrialContext, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SWEEP_SIMULATED_STATE"):
        open_nvml("sim", VirtualTime(context.time_source.now_ns() - 1), tmp_path)


def test_an_hour_of_steps_reads_fast(context: TrialContext) -> None:
    start_ns = context.time_source.now_ns()
    context.state.log_activity(
        Activity(
            start_ns=start_ns + i * 15_000_000,
            end_ns=start_ns + (i + 1) * 15_000_000,
            power_w=300.0,
            sm_clock_mhz=1980,
            mem_clock_mhz=3201,
            throttle_reasons=ThrottleReason.NONE,
        )
        for i in range(240_000)
    )
    began_s = time.process_time()
    context.time_source.sleep(3600.0)
    assert context.counter_mj() == 300 * 3600 * 1000
    assert time.process_time() - began_s < 100.0  # about two seconds; quadratic time would take hours


def test_the_simulation_offers_what_pynvml_offers() -> None:
    names = [name for name in dir(SimulatedNvml) if name.lower().startswith("nvml")]
    assert [name for name in names if not hasattr(pynvml, name)] == []
    constants = [name for name in names if isinstance(getattr(SimulatedNvml, name), int)]
    assert {name: getattr(SimulatedNvml, name) for name in constants} == {
        name: getattr(pynvml, name) for name in constants
    }
