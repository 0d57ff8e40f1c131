"""What is read once at each edge of a window."""

from pathlib import Path

import pytest

from runner.hardware.gpu import GpuLostError
from runner.hardware.host.meter import find_host_meter
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.window_meters import WindowMeters
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime
from tests.hardware.host.trees import set_energy, write_zone
from tests.hardware.nvml.double import Double


def test_both_meters_are_read_at_both_edges(tmp_path: Path) -> None:
    time_source = VirtualTime()
    gpu = NvmlGpu(SimulatedNvml("sim", time_source, tmp_path / "gpus"), 0, read_only=True)
    write_zone(tmp_path, "intel-rapl:0", "package-0")
    meters = WindowMeters(gpu, find_host_meter(time_source, root=tmp_path, num_workers=2))
    time_source.sleep(5.0)
    set_energy(tmp_path, "intel-rapl:0", 750_000_000)
    readings = meters.finish(host_idle_power_w=100.0, memory_power_reason="why")
    assert readings.activity.tensor_active_fraction == 0.0
    assert (readings.host.energy_j, readings.host.elapsed_s) == (pytest.approx(750.0), pytest.approx(5.0))
    assert (readings.host.idle_power_w, readings.host.num_workers) == (100.0, 2)
    assert readings.memory_power_reason == "why"


@pytest.mark.parametrize("function", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet", "nvmlGpmMetricsGet"])
def test_a_failure_is_a_reason_and_a_lost_gpu_an_error(tmp_path: Path, function: str) -> None:
    time_source = VirtualTime()
    nvml = SimulatedNvml("sim", time_source, tmp_path / "gpus")
    host = find_host_meter(time_source, root=tmp_path)
    meters = WindowMeters(NvmlGpu(Double(nvml, **{function: 999}), 0, read_only=True), host)
    time_source.sleep(1.0)
    activity = meters.finish(host_idle_power_w=None, memory_power_reason=None).activity
    assert activity.tensor_active_fraction is None
    assert function in str(activity.activity_reason)
    lost = NvmlGpu(Double(nvml, **{function: nvml.NVML_ERROR_GPU_IS_LOST}), 0, read_only=True)
    with pytest.raises(GpuLostError):
        WindowMeters(lost, host).finish(host_idle_power_w=None, memory_power_reason=None)
