"""The simulated GPM refuses what NVML refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.gpm import GpmMetricsGet, GpmSample
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime


@pytest.fixture
def nvml(tmp_path: Path) -> SimulatedNvml:
    return SimulatedNvml("sim:h200x2", VirtualTime(), tmp_path)


def ask(nvml: SimulatedNvml, *samples: GpmSample, metric: int = 5) -> GpmMetricsGet:
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 1
    asked.sample1, asked.sample2 = samples
    asked.metrics[0].metricId = metric
    return asked


def sample(nvml: SimulatedNvml, index: int = 0) -> GpmSample:
    return nvml.nvmlGpmSampleGet(nvml.nvmlDeviceGetHandleByIndex(index), nvml.nvmlGpmSampleAlloc())


def spoil_version(asked: GpmMetricsGet) -> None:
    asked.version = 0


def free_sample(asked: GpmMetricsGet) -> None:
    assert asked.sample1 is not None
    asked.sample1.gpu = None


@pytest.mark.parametrize("spoil", [spoil_version, free_sample])
def test_what_is_not_filled_in_is_an_invalid_argument(
    nvml: SimulatedNvml, spoil: Callable[[GpmMetricsGet], None]
) -> None:
    first = sample(nvml)
    nvml.time_source.sleep(1.0)
    asked = ask(nvml, first, sample(nvml))
    spoil(asked)
    with pytest.raises(SimulatedNvmlError) as refused:
        nvml.nvmlGpmMetricsGet(asked)
    assert refused.value.value == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_samples_of_two_gpus_do_not_go_together(nvml: SimulatedNvml) -> None:
    first = sample(nvml)
    nvml.time_source.sleep(1.0)
    with pytest.raises(SimulatedNvmlError):
        nvml.nvmlGpmMetricsGet(ask(nvml, first, sample(nvml, 1)))


@pytest.mark.parametrize(("metric", "code"), [(5, 0), (2, 0), (10, 0), (0, 2), (400, 2), (3, 3)])
def test_each_metric_has_a_code_of_its_own(nvml: SimulatedNvml, metric: int, code: int) -> None:
    first = sample(nvml)
    nvml.time_source.sleep(1.0)
    assert nvml.nvmlGpmMetricsGet(ask(nvml, first, sample(nvml), metric=metric)).metrics[0].nvmlReturn == code


def test_no_time_between_two_samples_has_no_mean(nvml: SimulatedNvml) -> None:
    one = sample(nvml)
    assert nvml.nvmlGpmMetricsGet(ask(nvml, one, one)).metrics[0].nvmlReturn == nvml.NVML_ERROR_INVALID_ARGUMENT


def test_a_gpu_without_gpm(tmp_path: Path) -> None:
    nvml = SimulatedNvml("sim:h200+volta", VirtualTime(), tmp_path)
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice == 0
    with pytest.raises(SimulatedNvmlError):
        nvml.nvmlGpmSampleGet(handle, nvml.nvmlGpmSampleAlloc())
