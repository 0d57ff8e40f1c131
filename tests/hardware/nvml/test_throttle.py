"""Throttle reasons and times by NVML's newest calls and by its old ones."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from runner.hardware.gpu import GpuLostError, StateReading, ThrottleTimes
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.nvml.throttle import translate_reasons
from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.faults import Fault, FaultyNvml, fail
from runner.hardware.simulated.module import SimulatedNvml
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime
from tests.hardware.nvml.double import Double

SUCCESSOR_OF = {
    "nvmlDeviceGetTemperature": "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetViolationStatus": "nvmlDeviceGetFieldValues",
}
"""The calls that NVML deprecates with CUDA 13, and their successors."""
UNKNOWN_TIMES = ThrottleTimes(power_s=None, thermal_s=None, other_s=None)


@pytest.fixture
def nvml(tmp_path: Path) -> SimulatedNvml:
    return SimulatedNvml("sim", VirtualTime(), tmp_path)


@pytest.fixture
def old_nvml(tmp_path: Path) -> SimulatedNvml:
    return SimulatedNvml("sim", VirtualTime(), tmp_path, has_successors=False)


def throttle(nvml: SimulatedNvml, *stretches: tuple[float, ThrottleReason]) -> None:
    """Work through stretches of some seconds, each with its reasons."""
    gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    for seconds, reasons in stretches:
        start_ns = nvml.time_source.now_ns()
        activity = Activity(
            start_ns=start_ns,
            end_ns=start_ns + round(seconds * 1e9),
            power_w=600.0,
            sm_clock_mhz=1500,
            mem_clock_mhz=3201,
            throttle_reasons=reasons,
        )
        GpuState(nvml.state_dir / gpu.uuid).log_activity([activity])
        nvml.time_source.sleep(seconds)


def read_all(gpu: NvmlGpu) -> tuple[StateReading, ThrottleTimes]:
    return gpu.read_state(), gpu.read_throttle_times()


# reasons -------------------------------------------------------------------------------------------------------------


def test_nvmls_bits_are_translated_one_by_one() -> None:
    named = {
        "GpuIdle": ThrottleReason.IDLE,
        "ApplicationsClocksSetting": ThrottleReason.APPLICATION_CLOCKS,
        "SwPowerCap": ThrottleReason.POWER_CAP,
        "HwSlowdown": ThrottleReason.HARDWARE_SLOWDOWN,
        "SyncBoost": ThrottleReason.SYNC_BOOST,
        "SwThermalSlowdown": ThrottleReason.SOFTWARE_THERMAL,
        "HwThermalSlowdown": ThrottleReason.HARDWARE_THERMAL,
        "HwPowerBrakeSlowdown": ThrottleReason.POWER_BRAKE,
        "DisplayClockSetting": ThrottleReason.DISPLAY_CLOCK,
        "None": ThrottleReason.NONE,
    }
    for name, reason in named.items():
        assert translate_reasons(getattr(pynvml, f"nvmlClocksEventReason{name}")) == reason
    every_reason = translate_reasons(pynvml.nvmlClocksEventReasonAll)
    assert every_reason == ThrottleReason(0x1FF)
    assert (
        translate_reasons(pynvml.nvmlClocksThrottleReasonAll) == every_reason
    )  # without the reasons that NVML has retired


# times ---------------------------------------------------------------------------------------------------------------


def test_times_by_policies_are_seconds_by_kind(old_nvml: SimulatedNvml) -> None:
    counted_ns = {0: 1_500_000_000, 1: 250_000_000, 2: 10_000_000, 3: 20_000_000, 4: 9_000_000_000_000, 5: 30_000_000}

    def read(_: object, policy: int) -> SimpleNamespace:
        return SimpleNamespace(referenceTime=1, violationTime=counted_ns[policy])

    double = Double(old_nvml, nvmlDeviceGetViolationStatus=read)
    times = NvmlGpu(double, 0, read_only=True).read_throttle_times()
    assert (times.power_s, times.thermal_s) == (1.5, 0.25)
    assert times.other_s == pytest.approx(0.06)  # without low utilisation, which is no throttling


def test_times_that_the_gpu_does_not_count_are_unknown(old_nvml: SimulatedNvml) -> None:
    def read(_: object, policy: int) -> SimpleNamespace:
        if policy != 3:
            raise SimulatedNvmlError(old_nvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(referenceTime=1, violationTime=20_000_000)

    times = NvmlGpu(Double(old_nvml, nvmlDeviceGetViolationStatus=read), 0, read_only=True).read_throttle_times()
    assert times == ThrottleTimes(power_s=None, thermal_s=None, other_s=0.02)
    none = Double(old_nvml, nvmlDeviceGetViolationStatus=SimulatedNvml.NVML_ERROR_NOT_SUPPORTED)
    times = NvmlGpu(none, 0, read_only=True).read_throttle_times()
    assert times == UNKNOWN_TIMES
    lost = Double(old_nvml, nvmlDeviceGetViolationStatus=SimulatedNvml.NVML_ERROR_GPU_IS_LOST)
    with pytest.raises(GpuLostError):
        NvmlGpu(lost, 0, read_only=True).read_throttle_times()


FIELDS = {74: 1_500_000_000, 271: 500_000_000, 269: 200_000_000, 270: 50_000_000, 76: 10_000_000}
"""ns by NVML's id: software power cap, power brake, software and hardware thermal slowdown, sync boost."""


def answer_fields(nvml: SimulatedNvml, codes: dict[int, int] | None = None, value_type: int = 3) -> Double:
    """A driver that gives `FIELDS` as nvidia-ml-py does, with the codes of those that have no answer."""

    def read(_: object, field_ids: Sequence[int]) -> list[Any]:
        fields = []
        for field_id in field_ids:
            field = pynvml.c_nvmlFieldValue_t()
            field.fieldId, field.valueType = field_id, value_type
            field.nvmlReturn = (codes or {}).get(field_id, 0)
            field.value.ullVal = FIELDS[field_id]
            fields.append(field)
        return fields

    return Double(nvml, nvmlDeviceGetFieldValues=read)


def test_times_by_fields_are_seconds_by_kind(nvml: SimulatedNvml) -> None:
    times = NvmlGpu(answer_fields(nvml), 0, read_only=True).read_throttle_times()
    assert times == ThrottleTimes(power_s=2.0, thermal_s=0.25, other_s=0.01)


@pytest.mark.parametrize("code", [SimulatedNvml.NVML_ERROR_NOT_SUPPORTED, SimulatedNvml.NVML_ERROR_INVALID_ARGUMENT])
def test_a_field_that_the_gpu_lacks_is_left_out_of_the_sum(nvml: SimulatedNvml, code: int) -> None:
    times = NvmlGpu(answer_fields(nvml, {271: code, 270: code, 76: code}), 0, read_only=True).read_throttle_times()
    assert times == ThrottleTimes(power_s=1.5, thermal_s=0.2, other_s=None)


def test_a_field_that_fails_leaves_its_kind_unknown(nvml: SimulatedNvml) -> None:
    """A sum without it would be too small, and the difference to the next reading too large."""
    times = NvmlGpu(answer_fields(nvml, {271: 999}), 0, read_only=True).read_throttle_times()
    assert times == ThrottleTimes(power_s=None, thermal_s=0.25, other_s=0.01)
    times = NvmlGpu(answer_fields(nvml, value_type=pynvml.NVML_VALUE_TYPE_DOUBLE), 0, read_only=True)
    assert times.read_throttle_times() == UNKNOWN_TIMES


def test_a_field_of_a_lost_gpu_is_an_error(nvml: SimulatedNvml) -> None:
    with pytest.raises(GpuLostError, match="SW_POWER_CAP"):
        NvmlGpu(answer_fields(nvml, {74: 15}), 0, read_only=True).read_throttle_times()


@pytest.mark.parametrize("code", [SimulatedNvml.NVML_ERROR_NOT_SUPPORTED, SimulatedNvml.NVML_ERROR_INVALID_ARGUMENT])
def test_a_driver_that_knows_the_old_field_of_power_alone_is_asked_by_policy(nvml: SimulatedNvml, code: int) -> None:
    throttle(nvml, (2.0, ThrottleReason.POWER_CAP), (1.0, ThrottleReason.SOFTWARE_THERMAL))
    gpu = NvmlGpu(answer_fields(nvml, {269: code, 270: code, 271: code}), 0, read_only=True)
    assert gpu.read_throttle_times() == ThrottleTimes(power_s=2.0, thermal_s=1.0, other_s=0.0)


def test_an_old_nvidia_ml_py_has_no_fields(nvml: SimulatedNvml) -> None:
    class Old(Double):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("NVML_FI_DEV_CLOCKS_EVENT_REASON"):
                raise AttributeError(name)
            return super().__getattr__(name)

    throttle(nvml, (2.0, ThrottleReason.POWER_CAP))
    assert NvmlGpu(Old(nvml), 0, read_only=True).read_throttle_times().power_s == 2.0


# both ways -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reasons", [0x4, 0x80, 0x84, 0x20, 0x40, 0x60, 0x10, 0x4 | 0x20, 0x1, 0x8, 0x0, 0x1FF])
def test_an_old_driver_gives_the_same_numbers(nvml: SimulatedNvml, reasons: int) -> None:
    throttle(nvml, (1.0, ThrottleReason.NONE), (2.3, ThrottleReason(reasons)), (0.4, ThrottleReason.POWER_CAP))
    old = SimulatedNvml("sim", nvml.time_source, nvml.state_dir, has_successors=False)
    expected, times = read_all(NvmlGpu(nvml, 0, read_only=True))
    assert read_all(NvmlGpu(old, 0, read_only=True)) == (expected, times)
    lasted_s = 2.3 if reasons & 0x84 else 0.0
    assert times.power_s == pytest.approx(lasted_s + 0.4, abs=0.1)  # counters change each 100 ms
    assert times.thermal_s == pytest.approx(2.3 if reasons & 0x60 else 0.0, abs=0.1)
    assert times.other_s == pytest.approx(2.3 if reasons & 0x10 else 0.0, abs=0.1)


@pytest.mark.parametrize("has_successors", [True, False])
def test_which_call_answers_is_found_once(tmp_path: Path, has_successors: bool) -> None:
    nvml = FaultyNvml(SimulatedNvml("sim", VirtualTime(), tmp_path, has_successors=has_successors))
    gpu = NvmlGpu(nvml, 0, read_only=True)
    for _ in range(5):
        read_all(gpu)
    for old, new in SUCCESSOR_OF.items():
        num_old = 25 if old == "nvmlDeviceGetViolationStatus" else 5
        assert (nvml.num_calls[new], nvml.num_calls[old]) == ((5, 0) if has_successors else (1, num_old))


@pytest.mark.parametrize("code", [2, 3, 13, 999])
@pytest.mark.parametrize("function", SUCCESSOR_OF.values())
def test_where_a_successor_does_not_answer_the_old_call_does(nvml: SimulatedNvml, function: str, code: int) -> None:
    throttle(nvml, (1.0, ThrottleReason.POWER_CAP))
    expected = read_all(NvmlGpu(nvml, 0, read_only=True))
    faulty = FaultyNvml(nvml, [Fault(functions=(function,), effect=fail(code))])
    gpu = NvmlGpu(faulty, 0, read_only=True)
    assert read_all(gpu) == expected
    faulty.faults.clear()
    read_all(gpu)
    assert faulty.num_calls[function] == 1  # the old counter and the new one need not agree


@pytest.mark.parametrize("code", [2, 3, 13, 999])
@pytest.mark.parametrize("function", [*SUCCESSOR_OF, *SUCCESSOR_OF.values()])
def test_an_answer_that_is_lost_later_is_null(tmp_path: Path, function: str, code: int) -> None:
    nvml = SimulatedNvml("sim", VirtualTime(), tmp_path, has_successors=function not in SUCCESSOR_OF)
    faulty = FaultyNvml(nvml)
    gpu = NvmlGpu(faulty, 0, read_only=True)
    sound = read_all(gpu)
    faulty.faults.append(Fault(functions=(function,), effect=fail(code)))
    state, times = read_all(gpu)
    values = (state.temperature_c, state.throttle_reasons, times.power_s)
    lost = ["Temperature" in function, "Reasons" in function, "Violation" in function or "Field" in function]
    assert [value is None for value in values] == lost
    faulty.faults.clear()
    assert read_all(gpu) == sound


@pytest.mark.parametrize("function", [*SUCCESSOR_OF, *SUCCESSOR_OF.values()])
def test_a_lost_gpu_is_lost_by_each_call(tmp_path: Path, function: str) -> None:
    nvml = SimulatedNvml("sim", VirtualTime(), tmp_path, has_successors=function not in SUCCESSOR_OF)
    fault = Fault(functions=(function,), effect=fail(nvml.NVML_ERROR_GPU_IS_LOST))
    with pytest.raises(GpuLostError):
        read_all(NvmlGpu(FaultyNvml(nvml, [fault]), 0, read_only=True))
