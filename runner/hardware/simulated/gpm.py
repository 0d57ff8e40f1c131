"""GPM of a simulated GPU: the functions and structures of NVML that count how busy the GPU's units are.

A sample notes its instant. The metrics between two samples are the exact means over the time between them. Next:
`module.py`.
"""

# ruff: noqa: D102, N802, N815 - the names, and what they mean, are NVML's

from dataclasses import dataclass, field

from runner.hardware.simulated.constants import NvmlConstants, SimulatedNvmlError
from runner.hardware.simulated.gpu import SimulatedGpu
from runner.timebase import TimeSource

_NUM_METRICS = 8
_LAST_METRIC = 333


@dataclass(slots=True)
class GpmSample:
    """An opaque handle."""

    gpu: SimulatedGpu | None = None
    time_ns: int = 0


@dataclass(slots=True)
class GpmMetric:
    """One metric that is asked for, and its answer in per cent."""

    metricId: int = 0
    nvmlReturn: int = 0
    value: float = 0.0


@dataclass(slots=True)
class GpmMetricsGet:
    """What nvmlGpmMetricsGet takes and fills."""

    version: int = 0
    numMetrics: int = 0
    sample1: GpmSample | None = None
    sample2: GpmSample | None = None
    metrics: list[GpmMetric] = field(default_factory=lambda: [GpmMetric() for _ in range(_NUM_METRICS)])


@dataclass(frozen=True, slots=True)
class GpmSupport:
    """Whether a GPU has GPM."""

    isSupportedDevice: int


class SimulatedGpm:
    """The functions nvmlGpm*, which `SimulatedNvml` inherits."""

    time_source: TimeSource
    c_nvmlGpmMetricsGet_t = GpmMetricsGet

    def nvmlGpmQueryDeviceSupport(self, gpu: SimulatedGpu) -> GpmSupport:
        return GpmSupport(int(gpu.sensors.counts_activity))

    def nvmlGpmSampleAlloc(self) -> GpmSample:
        return GpmSample()

    def nvmlGpmSampleFree(self, sample: GpmSample) -> None:
        sample.gpu = None

    def nvmlGpmSampleGet(self, gpu: SimulatedGpu, sample: GpmSample) -> GpmSample:
        if not gpu.sensors.counts_activity:
            raise SimulatedNvmlError(NvmlConstants.NVML_ERROR_NOT_SUPPORTED)
        sample.gpu, sample.time_ns = gpu, self.time_source.now_ns()
        return sample

    def nvmlGpmMetricsGet(self, asked: GpmMetricsGet) -> GpmMetricsGet:
        first, last = asked.sample1, asked.sample2
        is_known = asked.version == NvmlConstants.NVML_GPM_METRICS_GET_VERSION
        if not is_known or first is None or last is None or first.gpu is None or last.gpu is not first.gpu:
            raise SimulatedNvmlError(NvmlConstants.NVML_ERROR_INVALID_ARGUMENT)
        elapsed_s = (last.time_ns - first.time_ns) * 1e-9
        before, after = first.gpu.history.part_sums(first.time_ns), first.gpu.history.part_sums(last.time_ns)
        active_s = {
            NvmlConstants.NVML_GPM_METRIC_ANY_TENSOR_UTIL: after.tensor_s - before.tensor_s,
            NvmlConstants.NVML_GPM_METRIC_DRAM_BW_UTIL: after.dram_s - before.dram_s,
            NvmlConstants.NVML_GPM_METRIC_SM_UTIL: after.sm_s - before.sm_s,
        }
        for metric in asked.metrics[: asked.numMetrics]:
            if not 0 < metric.metricId < _LAST_METRIC or elapsed_s <= 0:
                metric.nvmlReturn = NvmlConstants.NVML_ERROR_INVALID_ARGUMENT
            elif metric.metricId not in active_s:
                metric.nvmlReturn = NvmlConstants.NVML_ERROR_NOT_SUPPORTED
            else:
                metric.nvmlReturn, metric.value = 0, 100 * active_s[metric.metricId] / elapsed_s
        return asked
