"""Conditions of a simulated GPU and faults of its driver, seen through `NvmlGpu`."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuError, GpuLostError, PermissionDeniedError, PowerReading
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.sampler import PowerSampler
from runner.hardware.simulated.faults import (
    EVERY_CALL,
    EVERY_SETTING,
    Fault,
    FaultyNvml,
    fail,
    hold_back,
    lose,
    mislabel,
    step_back,
    stick,
)
from runner.hardware.simulated.module import SimulatedNvml
from runner.inference.engine import Sampling
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import Activity, GpuConditions, GpuState
from runner.physics.shape import get_shape
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime, WallTime
from tests.hardware.owners import wait_until

SECOND_NS = 1_000_000_000
MODEL = load_gpu_model()


class TrialContext:
    """One simulated H200 behind a driver with faults, and an engine on it."""

    def __init__(self, state_dir: Path) -> None:
        self.time_source = VirtualTime()
        self.true_nvml = SimulatedNvml("sim", self.time_source, state_dir)
        self.nvml = FaultyNvml(self.true_nvml)
        self.gpu = NvmlGpu(self.nvml, 0, read_only=False)
        self.state = GpuState(state_dir / self.gpu.info.uuid)
        self.engine = SimulatedEngine(
            shape=get_shape("llama-3.2-1b"),
            gpu_model=MODEL,
            state=self.state,
            time_source=self.time_source,
            max_num_seqs=8,
        )

    @property
    def handle(self) -> Any:
        return self.true_nvml.nvmlDeviceGetHandleByIndex(0)

    def after_s(self, seconds: float) -> int:
        return self.time_source.now_ns() + round(seconds * 1e9)

    def decode(self, num_tokens: int = 400) -> float:
        """Decode with eight in flight, and return the seconds that it took."""
        requests = [
            Request(
                request_id=f"r{i}",
                sample_id=f"s{i}",
                kind="generate",
                prompt_token_ids=[1] * 16,
                num_context_tokens=16,
                max_output_tokens=num_tokens,
            )
            for i in range(8)
        ]
        run = self.engine.run(iter(requests), ClosedLoop(concurrency=8), Sampling())
        return (run.end_ns - run.start_ns) * 1e-9

    def exact_j(self, start_ns: int, end_ns: int) -> float:
        history = self.handle.history
        return history.energy_j(end_ns) - history.energy_j(start_ns)

    def violation_s(self, policy: int) -> float:
        return self.nvml.nvmlDeviceGetViolationStatus(self.handle, policy).violationTime * 1e-9


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(tmp_path)


def trapezoid_j(samples: list[PowerReading]) -> float:
    return sum((b.time_ns - a.time_ns) * 1e-9 * (a.power_w + b.power_w) / 2 for a, b in pairwise(samples))


# the GPU and its surroundings ----------------------------------------------------------------------------------------


def test_an_ignored_lock_is_taken_with_success_and_the_clock_runs_free(context: TrialContext) -> None:
    free_s = context.decode()
    context.gpu.apply(OperatingPoint(sm_clock_mhz=510))
    context.time_source.sleep(1.0)
    locked_s = context.decode()
    assert context.gpu.read_state().sm_clock_mhz == 510
    context.state.change_conditions(GpuConditions(time_ns=context.time_source.now_ns(), ignores_locks=True))
    context.gpu.apply(OperatingPoint(sm_clock_mhz=660, power_limit_w=690.0))
    context.time_source.sleep(1.0)
    assert context.decode() == free_s
    assert context.gpu.read_state().sm_clock_mhz == 1980
    assert context.gpu.read_power_limit_w() == 690.0
    assert locked_s > 1.03 * free_s  # decoding waits for memory


def test_heat_holds_the_clock_down_for_a_while_and_is_seen_everywhere(context: TrialContext) -> None:
    start_ns, hot_ns, cool_ns = context.time_source.now_ns(), context.after_s(2.0), context.after_s(4.0)
    context.state.change_conditions(GpuConditions(time_ns=hot_ns, max_sm_clock_mhz=990))
    context.state.change_conditions(GpuConditions(time_ns=cool_ns))
    seen: dict[tuple[int | None, ThrottleReason | None], int] = {}

    def look() -> None:
        state = context.gpu.read_state()
        key = (state.sm_clock_mhz, state.throttle_reasons)
        seen[key] = seen.get(key, 0) + 1

    stop = context.time_source.every(0.1, look)
    while context.time_source.now_ns() < start_ns + 6 * SECOND_NS:
        context.decode(100)
    stop()
    # A reading between two requests finds the GPU held down and idle.
    hot = ThrottleReason.SOFTWARE_THERMAL
    held = {reasons: number for (clock_mhz, reasons), number in seen.items() if clock_mhz == 990}
    assert set(held) <= {hot, hot | ThrottleReason.IDLE}
    assert sum(held.values()) == pytest.approx(20, abs=1)
    assert all(hot not in reasons for clock_mhz, reasons in seen if clock_mhz != 990)
    assert context.violation_s(SimulatedNvml.NVML_PERF_POLICY_THERMAL) == pytest.approx(2.0, abs=0.05)
    assert context.violation_s(SimulatedNvml.NVML_PERF_POLICY_POWER) == 0.0
    assert context.violation_s(5) == 0.0


def test_heat_does_not_show_below_the_clock_to_which_it_holds(context: TrialContext) -> None:
    context.state.change_conditions(
        GpuConditions(time_ns=0, max_sm_clock_mhz=1410, slowdown_reasons=ThrottleReason.HARDWARE_THERMAL)
    )
    context.gpu.apply(OperatingPoint(sm_clock_mhz=990))
    context.time_source.sleep(0.5)
    context.decode()
    assert (context.gpu.read_state().sm_clock_mhz, context.violation_s(1)) == (990, 0.0)
    context.gpu.apply(OperatingPoint(sm_clock_mhz=1980))
    context.time_source.sleep(0.5)
    context.decode()
    state = context.gpu.read_state()
    assert (state.sm_clock_mhz, state.throttle_reasons) == (1410, ThrottleReason.HARDWARE_THERMAL)


def test_power_violations_are_counted_apart(context: TrialContext) -> None:
    start_ns = context.time_source.now_ns()
    activity = {
        "power_w": 700.0,
        "sm_clock_mhz": 1500.0,
        "mem_clock_mhz": 3201.0,
        "throttle_reasons": ThrottleReason.POWER_CAP,
    }
    context.state.log_activity([Activity(start_ns=start_ns, end_ns=start_ns + 3 * SECOND_NS, **activity)])
    context.time_source.sleep(2.0)
    assert (context.violation_s(0), context.violation_s(1)) == (2.0, 0.0)
    context.time_source.sleep(8.0)
    assert (context.violation_s(0), context.violation_s(1)) == (3.0, 0.0)


def test_a_foreign_process_takes_time_power_and_memory_and_is_listed(context: TrialContext) -> None:
    alone_s = context.decode()
    assert (context.gpu.read_process_ids(), context.gpu.read_memory_used_bytes()) == ([], 0)
    begin_ns = context.after_s(1.0)
    context.state.change_conditions(
        GpuConditions(
            time_ns=begin_ns,
            foreign_power_w=150.0,
            foreign_slowdown=1.5,
            foreign_process_ids=(4242,),
            foreign_memory_bytes=10**9,
        )
    )
    context.time_source.sleep(3.0)
    assert (context.gpu.read_process_ids(), context.gpu.read_memory_used_bytes()) == ([4242], 10**9)
    # The other process works while we idle: at the high clock, and without the idle reason.
    idle_w = context.exact_j(begin_ns, begin_ns + SECOND_NS)
    assert idle_w == pytest.approx(MODEL.idle_power_w(1980) + 150.0)
    assert context.gpu.read_state().throttle_reasons == 0
    start_ns = context.time_source.now_ns()
    shared_s = context.decode()
    assert shared_s == pytest.approx(1.5 * alone_s, rel=0.02)  # except the front end, which runs on the host
    # The counter, the samples and the exact energy all show what the GPU draws.
    end_ns = context.time_source.now_ns()
    samples = [s for s in context.gpu.read_power_samples(0) if start_ns <= s.time_ns <= end_ns]
    truth_j = context.exact_j(samples[0].time_ns, samples[-1].time_ns)
    assert trapezoid_j(samples) == pytest.approx(truth_j, rel=0.01)
    assert min(s.power_w for s in samples) > MODEL.idle_power_w(1980) + 150.0 - 1e-3


def test_the_power_limit_is_the_whole_gpus(context: TrialContext) -> None:
    context.gpu.apply(OperatingPoint(power_limit_w=500.0))
    context.time_source.sleep(1.0)
    context.decode()
    assert context.gpu.read_state().sm_clock_mhz == 1980
    assert context.violation_s(0) < 0.05  # prefill
    context.state.change_conditions(GpuConditions(time_ns=context.time_source.now_ns(), foreign_power_w=200.0))
    start_ns = context.time_source.now_ns()
    context.decode()
    powers_w = context.handle.history.powers_w(range(start_ns, context.time_source.now_ns(), 10_000_000))
    assert max(powers_w) <= 500.0
    assert context.gpu.read_state().sm_clock_mhz < 1980
    assert context.violation_s(0) > 0.5


def test_a_daemon_reverts_what_was_set_from_outside(context: TrialContext, tmp_path: Path) -> None:
    daemon = SimulatedNvml("sim", context.time_source, tmp_path)  # another process, with NVML of its own

    def revert() -> None:
        daemon.nvmlDeviceResetGpuLockedClocks(daemon.nvmlDeviceGetHandleByIndex(0))
        daemon.nvmlDeviceSetPowerManagementLimit(daemon.nvmlDeviceGetHandleByIndex(0), 500_000)

    context.gpu.apply(OperatingPoint(sm_clock_mhz=990, power_limit_w=300.0))
    stop = context.time_source.every(2.0, revert)
    context.time_source.sleep(1.0)
    assert (context.gpu.read_state().sm_clock_mhz, context.gpu.read_power_limit_w()) == (990, 300.0)
    context.time_source.sleep(1.5)
    context.decode()
    stop()
    assert (context.gpu.read_state().sm_clock_mhz, context.gpu.read_power_limit_w()) == (1980, 500.0)


def test_conditions_hold_in_other_processes_and_in_real_time(tmp_path: Path) -> None:
    time_source = WallTime()
    gpu = NvmlGpu(open_nvml("sim", time_source, tmp_path), 0, read_only=True)
    begin_ns = time_source.now_ns() + SECOND_NS // 2
    other = GpuState(tmp_path / gpu.info.uuid)
    other.change_conditions(GpuConditions(time_ns=begin_ns, foreign_process_ids=(7,)))
    found, now_ns = gpu.read_process_ids(), time_source.now_ns()
    assert found == [] or now_ns >= begin_ns  # this line may run late
    assert wait_until(lambda: time_source.now_ns() >= begin_ns)
    assert gpu.read_process_ids() == [7]


# the driver ----------------------------------------------------------------------------------------------------------


def test_any_function_fails_with_any_code_from_when_to_when(context: TrialContext) -> None:
    function = "nvmlDeviceGetTotalEnergyConsumption"
    context.nvml.faults.append(
        Fault(functions=(function,), effect=fail(999), start_ns=context.after_s(1.0), end_ns=context.after_s(2.0))
    )
    context.gpu.read_energy_counter_j()
    context.time_source.sleep(1.0)
    with pytest.raises(GpuError, match=function):
        context.gpu.read_energy_counter_j()
    assert context.gpu.read_power_limit_w() == 700.0
    context.time_source.sleep(1.0)
    context.gpu.read_energy_counter_j()
    assert context.nvml.num_calls[function] == 3


def test_a_fault_may_strike_by_the_number_of_the_call(context: TrialContext) -> None:
    context.nvml.faults.append(Fault(functions=("nvmlDeviceGetTemperatureV",), effect=fail(999), calls=range(1, 3)))
    assert [context.gpu.read_state().temperature_c is None for _ in range(4)] == [False, True, True, False]


def test_a_lost_gpu_is_lost_to_every_call(context: TrialContext) -> None:
    context.nvml.faults.append(
        Fault(functions=EVERY_CALL, effect=fail(SimulatedNvml.NVML_ERROR_GPU_IS_LOST), start_ns=context.after_s(1.0))
    )
    context.gpu.read_state()
    context.time_source.sleep(1.0)
    for call in (
        context.gpu.read_state,
        context.gpu.read_energy_counter_j,
        context.gpu.read_process_ids,
        lambda: context.gpu.read_power_samples(0),
        lambda: context.gpu.apply(OperatingPoint(sm_clock_mhz=990)),
        lambda: context.gpu.reset(None),
    ):
        with pytest.raises(GpuLostError):
            call()


def test_permission_may_be_lost_while_readings_go_on(context: TrialContext) -> None:
    context.gpu.apply(OperatingPoint(sm_clock_mhz=990))
    context.nvml.faults.append(
        Fault(
            functions=EVERY_SETTING, effect=fail(SimulatedNvml.NVML_ERROR_NO_PERMISSION), start_ns=context.after_s(1.0)
        )
    )
    context.time_source.sleep(1.0)
    with pytest.raises(PermissionDeniedError):
        context.gpu.apply(OperatingPoint(sm_clock_mhz=1200))
    with pytest.raises(PermissionDeniedError):
        context.gpu.reset(None)
    assert context.gpu.read_state().sm_clock_mhz == 990


def test_a_counter_sticks(context: TrialContext) -> None:
    counter = ("nvmlDeviceGetTotalEnergyConsumption",)
    context.nvml.faults.append(
        Fault(functions=counter, effect=stick(), start_ns=context.after_s(1.0), end_ns=context.after_s(3.0))
    )
    sampler = PowerSampler(context.gpu, context.time_source)
    assert sampler.mark_counter_tick() is not None
    context.time_source.sleep(1.0)
    stuck_j = context.gpu.read_energy_counter_j()
    assert sampler.mark_counter_tick() is None
    assert context.gpu.read_energy_counter_j() == stuck_j
    context.time_source.sleep(2.0)
    assert sampler.mark_counter_tick() is not None
    assert context.gpu.read_energy_counter_j() > stuck_j + 100.0


def test_a_counter_goes_backwards(context: TrialContext) -> None:
    context.time_source.sleep(10.0)
    before_j = context.gpu.read_energy_counter_j()
    context.nvml.faults.append(Fault(functions=("nvmlDeviceGetTotalEnergyConsumption",), effect=step_back(500_000)))
    assert context.gpu.read_energy_counter_j() == before_j - 500.0


def test_samples_come_late_and_none_is_lost(context: TrialContext) -> None:
    context.nvml.faults.append(
        Fault(functions=("nvmlDeviceGetSamples",), effect=hold_back(context.true_nvml, SECOND_NS // 2))
    )
    context.time_source.sleep(3.0)
    samples = context.gpu.read_power_samples(context.time_source.now_ns() - 2 * SECOND_NS)
    assert 0.5 <= (context.time_source.now_ns() - samples[-1].time_ns) * 1e-9 < 0.53
    assert len(samples) == pytest.approx(75, abs=1)
    assert context.gpu.read_power_samples(samples[-1].time_ns) == []


def test_samples_are_missing_for_a_while(context: TrialContext) -> None:
    start_ns, end_ns = context.after_s(1.0), context.after_s(1.5)
    context.nvml.faults.append(
        Fault(functions=("nvmlDeviceGetSamples",), effect=lose(context.true_nvml, start_ns, end_ns))
    )
    context.time_source.sleep(2.0)
    samples = context.gpu.read_power_samples(start_ns - SECOND_NS // 2)
    assert [s for s in samples if start_ns <= s.time_ns < end_ns] == []
    assert len(samples) == pytest.approx(50, abs=1)


@pytest.mark.parametrize("upper_bits", [0, 0x7F3A])
@pytest.mark.parametrize("value_type", [-1, 0, 1, 2, 3, 4, 5, 6, 7, 99])
def test_a_wrong_type_of_value_is_the_right_number_or_an_error(
    context: TrialContext, value_type: int, upper_bits: int
) -> None:
    context.time_source.sleep(1.0)
    truth = context.gpu.read_power_samples(0)
    context.nvml.faults.append(Fault(functions=("nvmlDeviceGetSamples",), effect=mislabel(value_type, upper_bits)))
    is_four_bytes_wide = value_type in (1, 5)
    is_eight_bytes_wide = value_type in (2, 3, 4)
    if is_four_bytes_wide or (is_eight_bytes_wide and not upper_bits):
        assert context.gpu.read_power_samples(0) == truth
    else:
        with pytest.raises(GpuError, match=r"nvmlDeviceGetSamples.*value type"):
            context.gpu.read_power_samples(0)


def test_a_wrong_type_of_value_does_not_end_the_sampling(context: TrialContext) -> None:
    context.nvml.faults.append(
        Fault(functions=("nvmlDeviceGetSamples",), effect=mislabel(99), end_ns=context.after_s(1.0))
    )
    sampler = PowerSampler(context.gpu, context.time_source)
    sampler.start()
    context.time_source.sleep(3.0)
    assert sampler.error is None
    # The buffer still held the samples of the first second when it could be read again.
    assert sampler.take().drop_nulls("power_w").height == pytest.approx(150, abs=1)
    assert sampler.stats.num_failed_reads == 1


def test_faults_strike_in_real_time_and_from_other_threads(tmp_path: Path) -> None:
    time_source = WallTime()
    nvml = FaultyNvml(SimulatedNvml("sim", time_source, tmp_path))
    gpu = NvmlGpu(nvml, 0, read_only=True)
    sampler = PowerSampler(gpu, time_source)
    sampler.start()
    assert wait_until(lambda: sampler.stats.num_samples > 0)
    nvml.faults.append(Fault(functions=EVERY_CALL, effect=fail(15), start_ns=time_source.now_ns() + SECOND_NS // 10))
    assert wait_until(lambda: sampler.error is not None)
    sampler.stop()
    assert isinstance(sampler.error, GpuLostError)
    assert sampler.take().height > 0
