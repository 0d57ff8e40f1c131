"""NvmlGpu and the sampler on a real GPU. They only read: the simulated GPU tests settings."""

import os
import time
from itertools import pairwise
from statistics import median

import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import NoGpuError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.selection import select_gpus
from runner.hardware.sensors.sampler import PowerSampler
from runner.timebase import WallTime

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu() -> NvmlGpu:
    try:
        nvml = open_nvml("nvidia", WallTime())
        info = select_gpus(nvml, "all", os.environ.get("CUDA_VISIBLE_DEVICES"))[0]
    except NoGpuError as error:
        pytest.skip(str(error))
    return NvmlGpu(nvml, info.uuid, read_only=True)


def test_what_a_gpu_says(gpu: NvmlGpu) -> None:
    print(gpu.info)
    state = gpu.read_state()
    assert state.sm_clock_mhz is not None
    assert gpu.read_energy_counter_j() > 0
    samples = gpu.read_power_samples(0)
    assert all(0 < sample.power_w < 2000 for sample in samples)
    print("samples:", len(samples), "period_s:", median(b.time_ns - a.time_ns for a, b in pairwise(samples)) * 1e-9)


def test_the_trace_agrees_with_the_counter(gpu: NvmlGpu) -> None:
    sampler = PowerSampler(gpu, WallTime())
    sampler.start()
    time.sleep(1.0)
    began_s = time.thread_time()
    begin = sampler.mark_counter_tick()
    time.sleep(5.0)
    end = sampler.mark_counter_tick()
    assert begin is not None
    assert end is not None
    assert sampler.wait_covered(end[0])
    print("marking took", time.thread_time() - began_s, "s of CPU;", sampler.stats)
    sampler.stop()
    rows = sampler.take().drop_nulls("power_w").select("time_ns", "power_w").rows()
    inside = [row for row in rows if begin[0] <= row[0] <= end[0]]
    energy_j = sum((t1 - t0) * 1e-9 * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairwise(inside))
    assert sampler.stats.num_lost == 0
    assert energy_j == pytest.approx(end[1] - begin[1], rel=0.03)
