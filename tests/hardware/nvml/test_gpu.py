"""NvmlGpu on the simulated module, and on stand-ins for it that fail as NVML does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from runner.hardware.gpu import (
    GpuError,
    GpuLostError,
    NotSupportedError,
    PermissionDeniedError,
    PowerReading,
    ReadOnlyError,
)
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.module import SimulatedNvml
from runner.physics.gpu_state import GpuState
from runner.spec.operating_point import OperatingPoint
from runner.timebase import VirtualTime
from tests.hardware.nvml.double import Double

READS = {
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetIndex",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetPowerManagementDefaultLimit",
    "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetPowerManagementLimitConstraints",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetSupportedGraphicsClocks",
    "nvmlDeviceGetSupportedMemoryClocks",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetViolationStatus",
    "nvmlSystemGetDriverVersion",
}


class ReadsOnly:
    """A `SimulatedNvml` that fails the test when something other than a known reading is called."""

    def __init__(self, nvml: SimulatedNvml) -> None:
        self._nvml = nvml
        self.calls: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml"):
            assert name in READS, f"{name} was reached in read-only mode"
            self.calls.add(name)
        return getattr(self._nvml, name)


@pytest.fixture
def nvml(tmp_path: Path) -> SimulatedNvml:
    return SimulatedNvml("sim:h200x2", VirtualTime(), tmp_path)


def lines(nvml: SimulatedNvml, index: int = 0) -> int:
    return len(GpuState(nvml.state_dir / f"GPU-SIM-H200-{index}").settings_history())


def test_info_holds_the_gpus_facts(nvml: SimulatedNvml) -> None:
    info = NvmlGpu(nvml, 1, read_only=True).info
    assert (info.uuid, info.index, info.simulated) == ("GPU-SIM-H200-1", 1, True)
    assert (info.sm_clocks_mhz[0], info.sm_clocks_mhz[-1], len(info.sm_clocks_mhz)) == (345, 1980, 110)
    assert info.mem_clocks_mhz == (2201, 3201)
    assert (info.power_limit_min_w, info.power_limit_default_w, info.power_limit_max_w) == (200.0, 700.0, 700.0)
    assert info.persistence_mode is True
    assert NvmlGpu(nvml, info.uuid, read_only=True).info == info


def test_apply_and_reset_touch_what_is_named_and_no_other_gpu(nvml: SimulatedNvml) -> None:
    gpu, other = NvmlGpu(nvml, 0, read_only=False), NvmlGpu(nvml, 1, read_only=False)
    state = GpuState(nvml.state_dir / "GPU-SIM-H200-0")
    gpu.apply(OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201, power_limit_w=400.0))
    last = state.settings_history()[-1]
    assert (last.sm_clock_mhz, last.mem_clock_mhz, last.power_limit_w) == (1200, 2201, 400.0)
    assert (gpu.read_power_limit_w(), other.read_power_limit_w()) == (400.0, 700.0)
    gpu.apply(OperatingPoint(mem_clock_mhz=2201))
    last = state.settings_history()[-1]
    assert (last.sm_clock_mhz, last.mem_clock_mhz, last.power_limit_w) == (1200, 2201, 400.0)
    gpu.reset(700.0, ["sm_clock"])
    last = state.settings_history()[-1]
    assert (last.sm_clock_mhz, last.mem_clock_mhz, last.power_limit_w) == (None, 2201, 400.0)
    gpu.reset(None)
    last = state.settings_history()[-1]
    assert (last.sm_clock_mhz, last.mem_clock_mhz, last.power_limit_w) == (None, None, 400.0)
    gpu.reset(700.0)
    assert state.settings_history()[-1].power_limit_w is None
    assert lines(nvml, 1) == 1


@pytest.mark.parametrize(
    "request_",
    [
        OperatingPoint(sm_clock_mhz=1201),
        OperatingPoint(sm_clock_mhz=3000),
        OperatingPoint(mem_clock_mhz=3000),
        OperatingPoint(power_limit_w=100.0),
        OperatingPoint(sm_clock_mhz=1200, power_limit_w=900.0),
    ],
)
def test_unsupported_values_are_refused_before_anything_is_set(nvml: SimulatedNvml, request_: OperatingPoint) -> None:
    gpu = NvmlGpu(nvml, 0, read_only=False)
    with pytest.raises(ValueError, match=r"this GPU"):
        gpu.apply(request_)
    assert lines(nvml) == 1


def exercise(gpu: NvmlGpu) -> None:
    """Read everything, and try to set and reset everything."""
    gpu.read_power_samples(0)
    gpu.read_instant_power()
    gpu.read_average_power()
    gpu.read_state()
    gpu.read_energy_counter_j()
    gpu.read_power_limit_w()
    gpu.read_throttle_times()
    gpu.read_memory_used_bytes()
    gpu.read_process_ids()
    for request in (
        OperatingPoint(),
        OperatingPoint(sm_clock_mhz=1200),
        OperatingPoint(sm_clock_mhz=7),
        OperatingPoint(mem_clock_mhz=2201),
        OperatingPoint(power_limit_w=400.0),
    ):
        with pytest.raises(ReadOnlyError):
            gpu.apply(request)
    for limit_w in (None, 400.0):
        with pytest.raises(ReadOnlyError):
            gpu.reset(limit_w)


def test_read_only_reaches_readings_alone(nvml: SimulatedNvml) -> None:
    double = ReadsOnly(nvml)
    exercise(NvmlGpu(double, 0, read_only=True))
    assert len(double.calls) > 12


@pytest.mark.parametrize("value", ["read-only", "readonly", "no"])
def test_the_environment_forbids_whatever_the_code_says(
    nvml: SimulatedNvml, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    gpu = NvmlGpu(ReadsOnly(nvml), 0, read_only=False)
    monkeypatch.setenv("SWEEP_CLOCKS", value)
    exercise(gpu)
    assert gpu.read_only
    assert lines(nvml) == 1


def test_the_environment_is_asked_at_every_call(nvml: SimulatedNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_then_forbid(*_args: Any) -> None:
        monkeypatch.setenv("SWEEP_CLOCKS", "read-only")

    double = Double(nvml, nvmlDeviceSetMemoryLockedClocks=set_then_forbid)
    with pytest.raises(ReadOnlyError):
        NvmlGpu(double, 0, read_only=False).apply(OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201))
    assert lines(nvml) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (SimulatedNvml.NVML_ERROR_NO_PERMISSION, PermissionDeniedError),
        (SimulatedNvml.NVML_ERROR_NOT_SUPPORTED, NotSupportedError),
        (SimulatedNvml.NVML_ERROR_FUNCTION_NOT_FOUND, NotSupportedError),
        (SimulatedNvml.NVML_ERROR_GPU_IS_LOST, GpuLostError),
        (SimulatedNvml.NVML_ERROR_RESET_REQUIRED, GpuLostError),
        (999, GpuError),
    ],
)
def test_codes_become_typed_errors(nvml: SimulatedNvml, code: int, error: type[GpuError]) -> None:
    double = Double(nvml, nvmlDeviceSetGpuLockedClocks=code, nvmlDeviceGetTotalEnergyConsumption=code)
    gpu = NvmlGpu(double, 0, read_only=False)
    with pytest.raises(error, match="nvmlDeviceSetGpuLockedClocks"):
        gpu.apply(OperatingPoint(sm_clock_mhz=1200))
    with pytest.raises(error, match="nvmlDeviceGetTotalEnergyConsumption"):
        gpu.read_energy_counter_j()


def test_readings_that_fail_are_none_and_a_lost_gpu_is_an_error(nvml: SimulatedNvml) -> None:
    state = NvmlGpu(
        Double(nvml, nvmlDeviceGetTemperatureV=999, nvmlDeviceGetTemperature=999), 0, read_only=True
    ).read_state()
    assert state.temperature_c is None
    assert state.sm_clock_mhz == 345
    double = Double(nvml)
    gpu = NvmlGpu(double, 0, read_only=True)
    double._replaced["nvmlDeviceGetClockInfo"] = SimulatedNvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(GpuLostError):
        gpu.read_state()


def test_samples_are_decoded_by_their_value_type(nvml: SimulatedNvml) -> None:
    sample = SimpleNamespace(timeStamp=5_000_000, sampleValue=SimpleNamespace(ullVal=250_000, uiVal=-1))
    gpu = NvmlGpu(Double(nvml, nvmlDeviceGetSamples=lambda *_: (3, [sample])), 0, read_only=True)
    (reading,) = gpu.read_power_samples(0)
    assert (reading.time_ns, reading.power_w) == (5_000_000_000, 250.0)
    assert gpu.read_power_samples(5_000_000_000) == []


def test_mig_is_refused_with_a_reason(nvml: SimulatedNvml) -> None:
    with pytest.raises(NotSupportedError, match="instances have no power or clocks"):
        NvmlGpu(Double(nvml, nvmlDeviceGetMigMode=lambda _: [1, 1]), 0, read_only=True)


def test_a_gpu_that_says_little_is_still_read(nvml: SimulatedNvml) -> None:
    silent = dict.fromkeys(
        [
            "nvmlDeviceGetMigMode",
            "nvmlDeviceGetSupportedMemoryClocks",
            "nvmlDeviceGetPowerManagementLimitConstraints",
            "nvmlDeviceGetPowerManagementDefaultLimit",
            "nvmlDeviceGetPowerManagementLimit",
            "nvmlDeviceGetMemoryInfo",
            "nvmlDeviceGetPersistenceMode",
            "nvmlDeviceResetMemoryLockedClocks",
        ],
        SimulatedNvml.NVML_ERROR_NOT_SUPPORTED,
    )
    gpu = NvmlGpu(Double(nvml, **silent), 0, read_only=False)
    info = gpu.info
    assert (info.sm_clocks_mhz, info.mem_clocks_mhz, info.power_limit_max_w, info.memory_total_bytes) == (
        (),
        (),
        None,
        None,
    )
    assert (gpu.read_power_limit_w(), gpu.read_memory_used_bytes()) == (None, None)
    gpu.apply(OperatingPoint())
    with pytest.raises(NotSupportedError, match="does not say which SM clocks"):
        gpu.apply(OperatingPoint(sm_clock_mhz=1200))
    with pytest.raises(NotSupportedError, match="no power limit"):
        gpu.apply(OperatingPoint(power_limit_w=300.0))


def make_field(nvml: Any, **fields: Any) -> Any:
    """A driver that returns one power field as nvidia-ml-py does, as a ctypes structure with a union."""
    field = pynvml.c_nvmlFieldValue_t()
    field.timestamp = 1_700_000_000_123_456
    field.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    field.value.uiVal = 456_789
    for name, value in fields.items():
        setattr(field, name, value)
    return Double(nvml, nvmlDeviceGetFieldValues=lambda _handle, _ids: [field])


def test_a_field_is_read_by_its_own_type_and_stamp(nvml: SimulatedNvml) -> None:
    reading = NvmlGpu(make_field(nvml), 0, read_only=True).read_instant_power()
    assert reading == PowerReading(time_ns=1_700_000_000_123_456_000, power_w=456.789)
    as_long = make_field(nvml, valueType=pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG)
    as_long.nvmlDeviceGetFieldValues(None, None)[0].value.ullVal = 123_000
    assert NvmlGpu(as_long, 0, read_only=True).read_instant_power().power_w == 123.0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"nvmlReturn": 3}, NotSupportedError),
        ({"nvmlReturn": 15}, GpuLostError),
        ({"nvmlReturn": 999}, GpuError),
        ({"valueType": 77}, GpuError),
    ],
)
def test_a_field_that_failed_is_an_error_although_the_call_succeeded(
    nvml: SimulatedNvml, fields: dict[str, int], error: type[GpuError]
) -> None:
    with pytest.raises(error):
        NvmlGpu(make_field(nvml, **fields), 0, read_only=True).read_instant_power()


def test_an_old_nvidia_ml_py_has_no_instant_power(nvml: SimulatedNvml) -> None:
    class Old(Double):
        def __getattr__(self, name: str) -> Any:
            if name == "NVML_FI_DEV_POWER_INSTANT":
                raise AttributeError(name)
            return super().__getattr__(name)

    with pytest.raises(NotSupportedError, match="no NVML_FI_DEV_POWER_INSTANT"):
        NvmlGpu(Old(nvml), 0, read_only=True).read_instant_power()


def test_the_average_is_stamped_when_it_was_read(nvml: SimulatedNvml) -> None:
    reading = NvmlGpu(nvml, 0, read_only=True).read_average_power()
    assert (reading.time_ns, reading.power_w) == (nvml.time_source.now_ns(), 79.0)
