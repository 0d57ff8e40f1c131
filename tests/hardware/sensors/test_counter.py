"""The energy counter and its ticks."""

from pathlib import Path

import pytest

from runner.hardware.gpu import Gpu, GpuLostError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.counter import EnergyCounter
from runner.hardware.simulated.faults import Fault, FaultyNvml, fail, stick
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime

FUNCTION = ("nvmlDeviceGetTotalEnergyConsumption",)


@pytest.fixture
def time_source() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def nvml(tmp_path: Path, time_source: VirtualTime) -> FaultyNvml:
    return FaultyNvml(SimulatedNvml("sim", time_source, tmp_path))


@pytest.fixture
def gpu(nvml: FaultyNvml) -> Gpu:
    return NvmlGpu(nvml, 0, read_only=True)


def test_a_tick_is_stamped_between_the_readings_around_it(gpu: Gpu, time_source: VirtualTime) -> None:
    start_ns = time_source.now_ns()
    time_source.sleep(0.0634)
    tick = EnergyCounter(gpu, time_source).wait_for_tick()
    assert tick is not None
    assert tick[0] - start_ns == pytest.approx(100_000_000, abs=500_000)
    assert tick[1] == pytest.approx(7.9)


def test_a_counter_that_stands_still_does_not_tick(nvml: FaultyNvml, gpu: Gpu, time_source: VirtualTime) -> None:
    nvml.faults.append(Fault(functions=FUNCTION, effect=stick()))
    start_ns = time_source.now_ns()
    assert EnergyCounter(gpu, time_source).wait_for_tick() is None
    assert time_source.now_ns() - start_ns == pytest.approx(250_000_000, abs=1_000_000)


def test_a_gpu_without_a_counter_is_asked_once(nvml: FaultyNvml, gpu: Gpu, time_source: VirtualTime) -> None:
    nvml.faults.append(Fault(functions=FUNCTION, effect=fail(3)))
    counter = EnergyCounter(gpu, time_source)
    assert [counter.read_j(), counter.read_j(), counter.wait_for_tick()] == [None, None, None]
    assert (nvml.num_calls[FUNCTION[0]], counter.num_failed_reads) == (1, 0)


def test_a_reading_that_fails_is_counted_and_asked_again(nvml: FaultyNvml, gpu: Gpu, time_source: VirtualTime) -> None:
    nvml.faults.append(Fault(functions=FUNCTION, effect=fail(999), calls=range(1)))
    counter = EnergyCounter(gpu, time_source)
    assert [counter.read_j(), counter.read_j()] == [None, 0.0]
    assert counter.num_failed_reads == 1


def test_a_lost_gpu_is_an_error(nvml: FaultyNvml, gpu: Gpu, time_source: VirtualTime) -> None:
    nvml.faults.append(Fault(functions=FUNCTION, effect=fail(nvml.NVML_ERROR_GPU_IS_LOST)))
    with pytest.raises(GpuLostError):
        EnergyCounter(gpu, time_source).wait_for_tick()
