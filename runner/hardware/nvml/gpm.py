"""How busy the units of a GPU are: two samples of NVML's GPM counters enter, fractions of the time between them leave.

It reads only. GPM came with Hopper. A node's monitoring (DCGM) reads the same counters.
"""

import weakref
from contextlib import suppress
from typing import Any

from runner.hardware.gpu import ActivityMark, NotSupportedError
from runner.hardware.nvml.calls import call_nvml, typed_error
from runner.spec.activity import UnitActivity

_METRICS_GET_VERSION = 1
"""NVML_GPM_METRICS_GET_VERSION, which early releases of nvidia-ml-py lack."""
_METRICS = {"tensor": 5, "dram": 10, "sm": 2}
"""NVML_GPM_METRIC_ANY_TENSOR_UTIL, _DRAM_BW_UTIL and _SM_UTIL, in per cent."""


def take_sample(nvml: Any, handle: Any) -> ActivityMark:
    """Read a GPU's counters now. NVML's memory for them is freed with the mark.

    Raises: NotSupportedError: the GPU has no GPM. PermissionDeniedError, GpuLostError, GpuError.
    """
    if not call_nvml(nvml, "nvmlGpmQueryDeviceSupport", handle).isSupportedDevice:
        raise NotSupportedError("the GPU has no activity counters (GPM)")
    sample = call_nvml(nvml, "nvmlGpmSampleAlloc")
    mark = ActivityMark(sample=sample)
    weakref.finalize(mark, _free, nvml, sample).atexit = False
    call_nvml(nvml, "nvmlGpmSampleGet", handle, sample)
    return mark


def read_between(nvml: Any, first: ActivityMark, last: ActivityMark) -> UnitActivity:
    """Return the mean activity between two samples of one GPU. A metric that the GPU lacks is None.

    Raises: NotSupportedError: it has none of them. GpuError.
    """
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version = _METRICS_GET_VERSION
    asked.numMetrics = len(_METRICS)
    asked.sample1, asked.sample2 = first.sample, last.sample
    for i, metric_id in enumerate(_METRICS.values()):
        asked.metrics[i].metricId = metric_id
    answered = call_nvml(nvml, "nvmlGpmMetricsGet", asked)
    answers = {name: answered.metrics[i] for i, name in enumerate(_METRICS)}
    codes = [answer.nvmlReturn for answer in answers.values() if answer.nvmlReturn != 0]
    if len(codes) == len(answers):
        raise typed_error(nvml, nvml.NVMLError(codes[0]), "nvmlGpmMetricsGet")
    reason = f"GPM: error {codes[0]} for some of the metrics" if codes else None
    fractions = {name: answer.value / 100 if answer.nvmlReturn == 0 else None for name, answer in answers.items()}
    return UnitActivity(
        tensor_active_fraction=fractions["tensor"],
        dram_active_fraction=fractions["dram"],
        sm_active_fraction=fractions["sm"],
        activity_reason=reason,
    )


def _free(nvml: Any, sample: Any) -> None:
    with suppress(nvml.NVMLError, AttributeError):  # nobody could do anything about it
        nvml.nvmlGpmSampleFree(sample)
