"""How busy the units were, by two samples of the counters."""

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.hardware.gpu import GpuError, NotSupportedError, PermissionDeniedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.module import SimulatedNvml
from runner.physics.gpu_model import StepParts
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.activity import UnitActivity
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime
from tests.hardware.nvml.double import Double

PARTS = StepParts(memory_power_w=120.0, tensor_active_fraction=0.6, dram_active_fraction=0.4, sm_active_fraction=0.8)


@pytest.fixture
def time_source() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def nvml(time_source: VirtualTime, tmp_path: Path) -> SimulatedNvml:
    return SimulatedNvml("sim", time_source, tmp_path)


def work(nvml: SimulatedNvml, time_source: VirtualTime, seconds: float) -> None:
    state: GpuState = nvml.nvmlDeviceGetHandleByIndex(0).state
    now_ns = time_source.now_ns()
    state.log_activity(
        [
            Activity(
                start_ns=now_ns,
                end_ns=now_ns + round(seconds * 1e9),
                power_w=600.0,
                sm_clock_mhz=1500,
                mem_clock_mhz=3201,
                throttle_reasons=ThrottleReason.NONE,
                parts=PARTS,
            )
        ]
    )
    time_source.sleep(seconds)


def measure(nvml: Any, time_source: VirtualTime, simulated: SimulatedNvml) -> UnitActivity:
    """A window of 4 s with work in 3 s of it."""
    gpu = NvmlGpu(nvml, 0, read_only=True)
    first = gpu.mark_activity()
    work(simulated, time_source, 3.0)
    time_source.sleep(1.0)
    return gpu.read_activity(first, gpu.mark_activity())


def test_fractions_are_means_over_the_time_between_the_marks(nvml: SimulatedNvml, time_source: VirtualTime) -> None:
    activity = measure(nvml, time_source, nvml)
    assert activity.tensor_active_fraction == pytest.approx(0.75 * 0.6)
    assert activity.dram_active_fraction == pytest.approx(0.75 * 0.4)
    assert activity.sm_active_fraction == pytest.approx(0.75 * 0.8)
    assert activity.activity_reason is None


def test_a_gpu_without_counters_says_so(time_source: VirtualTime, tmp_path: Path) -> None:
    gpu = NvmlGpu(SimulatedNvml("sim:h200+a100", time_source, tmp_path), 0, read_only=True)
    with pytest.raises(NotSupportedError, match="no activity counters"):
        gpu.mark_activity()


def test_an_old_nvidia_ml_py_has_no_such_call(nvml: SimulatedNvml, time_source: VirtualTime) -> None:
    class Old(Double):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("nvmlGpm"):
                raise AttributeError(name)
            return super().__getattr__(name)

    with pytest.raises(NotSupportedError, match="no nvmlGpmQueryDeviceSupport"):
        NvmlGpu(Old(nvml), 0, read_only=True).mark_activity()


def test_counters_for_administrators_only_are_a_matter_of_permission(nvml: SimulatedNvml) -> None:
    double = Double(nvml, nvmlGpmSampleGet=nvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(PermissionDeniedError):
        NvmlGpu(double, 0, read_only=True).mark_activity()


def test_one_metric_that_fails_is_none_and_named(nvml: SimulatedNvml, time_source: VirtualTime) -> None:
    def lose_dram(asked: Any) -> Any:
        answered = nvml.nvmlGpmMetricsGet(asked)
        for metric in answered.metrics:
            if metric.metricId == nvml.NVML_GPM_METRIC_DRAM_BW_UTIL:
                metric.nvmlReturn = nvml.NVML_ERROR_NOT_SUPPORTED
        return answered

    activity = measure(Double(nvml, nvmlGpmMetricsGet=lose_dram), time_source, nvml)
    assert activity.dram_active_fraction is None
    assert activity.tensor_active_fraction == pytest.approx(0.45)
    assert activity.activity_reason == "GPM: error 3 for some of the metrics"


def test_all_metrics_that_fail_are_an_error(nvml: SimulatedNvml, time_source: VirtualTime) -> None:
    gpu = NvmlGpu(nvml, 0, read_only=True)
    mark = gpu.mark_activity()
    with pytest.raises(GpuError, match="nvmlGpmMetricsGet"):
        gpu.read_activity(mark, mark)


def test_memory_of_a_sample_is_freed_with_its_mark(nvml: SimulatedNvml) -> None:
    freed: list[Any] = []
    gpu = NvmlGpu(Double(nvml, nvmlGpmSampleFree=freed.append), 0, read_only=True)
    mark = gpu.mark_activity()
    assert freed == []
    del mark
    gc.collect()
    assert len(freed) == 1


def test_only_reading_functions_are_called(nvml: SimulatedNvml, time_source: VirtualTime) -> None:
    called: list[str] = []

    class Listing(Double):
        def __getattr__(self, name: str) -> Any:
            called.append(name)
            return super().__getattr__(name)

    measure(Listing(nvml), time_source, nvml)
    gc.collect()
    assert {name for name in called if name.startswith("nvmlGpm")} == {
        "nvmlGpmQueryDeviceSupport",
        "nvmlGpmSampleAlloc",
        "nvmlGpmSampleGet",
        "nvmlGpmSampleFree",
        "nvmlGpmMetricsGet",
    }


def test_the_structure_of_nvidia_ml_py_takes_what_is_written_into_it(nvml: SimulatedNvml) -> None:
    """The real one is made of ctypes, and refuses what it has no field for."""
    import pynvml

    from runner.hardware.gpu import ActivityMark
    from runner.hardware.nvml.gpm import read_between

    def fill(asked: Any) -> Any:
        assert asked.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        wanted = [asked.metrics[i].metricId for i in range(asked.numMetrics)]
        assert wanted == [
            pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
            pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
            pynvml.NVML_GPM_METRIC_SM_UTIL,
        ]
        for i, per_cent in enumerate((62.0, 12.0, 97.0)):
            asked.metrics[i].value = per_cent
        return asked

    real = SimpleNamespace(
        c_nvmlGpmMetricsGet_t=pynvml.c_nvmlGpmMetricsGet_t, NVMLError=pynvml.NVMLError, nvmlGpmMetricsGet=fill
    )
    mark = ActivityMark(sample=pynvml.c_nvmlGpmSample_t())
    assert read_between(real, mark, mark) == UnitActivity(
        tensor_active_fraction=0.62, dram_active_fraction=0.12, sm_active_fraction=0.97
    )
