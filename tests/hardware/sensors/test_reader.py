"""Power from the source that a probe chose: each reading comes once, also where the value stays the same."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from runner.analysis.energy.trace import estimate_trace
from runner.hardware.factory import open_nvml
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.reader import POLL_S
from runner.hardware.sensors.sampler import PowerSampler
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime


def open_gpu(directory: Path, sensors: str) -> tuple[NvmlGpu, VirtualTime, PowerSampler]:
    """A GPU at rest that was probed, with a sampler that is out of step with its sensors."""
    time_source = VirtualTime()
    gpu = NvmlGpu(open_nvml(f"sim:h200+{sensors}", time_source, directory), 0, read_only=True)
    time_source.sleep(1.0)
    found = probe_sensors(gpu, time_source)
    time_source.sleep(0.0137)
    sampler = PowerSampler(gpu, time_source, sensors=found)
    sampler.start()
    return gpu, time_source, sampler


def work(gpu: NvmlGpu, time_source: VirtualTime, directory: Path, seconds: float, power_w: float) -> None:
    now_ns = time_source.now_ns()
    GpuState(directory / gpu.info.uuid).log_activity(
        [
            Activity(
                start_ns=now_ns,
                end_ns=now_ns + round(seconds * 1e9),
                power_w=power_w,
                sm_clock_mhz=1980,
                mem_clock_mhz=3201,
                throttle_reasons=ThrottleReason.NONE,
            )
        ]
    )
    time_source.sleep(seconds)


@pytest.mark.parametrize("sensors", ["h100", "rtx5090", "a100", "rtx3090", "average-only"])
def test_each_reading_is_taken_once_however_often_it_is_polled(tmp_path: Path, sensors: str) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, sensors)
    for k in range(50):  # another power in each update of five seconds
        work(gpu, time_source, tmp_path, 0.1, 300.0 + 5.0 * k)
    powers = sampler.take().drop_nulls("power_w")
    assert powers.height == pytest.approx(50, abs=1)
    assert powers["power_w"].n_unique() == powers.height
    # It is unknown when the first value appeared: it was there already.
    assert all(b - a == pytest.approx(1e8, abs=POLL_S * 1e9) for a, b in pairwise(powers["time_ns"][1:]))


@pytest.mark.parametrize("sensors", ["h100", "a100"])
def test_readings_that_stay_the_same_stay_in_the_trace(tmp_path: Path, sensors: str) -> None:
    """100 W for 10 s, then 300 W for 10 s: 2000 J by the changes alone, 4000 J by all readings."""
    gpu, time_source, sampler = open_gpu(tmp_path, sensors)
    work(gpu, time_source, tmp_path, 10.0, 100.0)
    work(gpu, time_source, tmp_path, 10.0, 300.0)
    powers = sampler.take().drop_nulls("power_w")
    assert powers.height == pytest.approx(200, abs=3)
    assert max(b - a for a, b in pairwise(powers["time_ns"])) <= 121_000_000


def test_an_average_is_covered_only_when_it_looks_back_no_further(tmp_path: Path) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, "average-only")
    work(gpu, time_source, tmp_path, 3.0, 400.0)
    end_ns = time_source.now_ns()
    assert sampler.wait_covered(end_ns)
    assert 1.0 < (time_source.now_ns() - end_ns) * 1e-9 < 1.3
    assert sampler.reach_s == 1.0


def test_with_a_counter_alone_what_follows_is_told_by_its_next_tick(tmp_path: Path) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, "counter-only")
    work(gpu, time_source, tmp_path, 3.0, 400.0)
    end = sampler.mark_counter_tick()
    assert end is not None
    assert sampler.wait_covered(end[0])
    ticks = sampler.take().drop_nulls("energy_counter_total_j")["time_ns"].to_list()
    assert ticks[-2:] == [end[0], end[0] + 100_000_000]


def test_the_findings_decide_and_not_what_else_the_gpu_could_show(tmp_path: Path) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, "h200")
    found = sampler.sensors
    assert found is not None
    by_field = PowerSampler(gpu, time_source, sensors=replace(found, power_source="instant"))
    by_field.start()
    work(gpu, time_source, tmp_path, 2.0, 400.0)
    assert by_field.take().drop_nulls("power_w").height == pytest.approx(20, abs=1)
    assert sampler.take().drop_nulls("power_w").height == pytest.approx(100, abs=26)  # drained twice a second


def test_better_findings_change_the_source_and_leave_none_of_the_old_readings(tmp_path: Path) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, "h200")
    work(gpu, time_source, tmp_path, 1.0, 400.0)
    sampler.use(replace(sampler.sensors, power_source="average"))
    covered_ns = time_source.now_ns()
    work(gpu, time_source, tmp_path, 1.0, 600.0)
    powers = sampler.take().drop_nulls("power_w")
    # Averages come every 100 ms and samples every 20. The first sample is there when `use` returns.
    assert powers["time_ns"].min() <= covered_ns
    assert powers.filter(powers["time_ns"] > covered_ns).height == pytest.approx(10, abs=1)
    assert sampler.reach_s == 1.0


def test_better_findings_of_the_same_source_lose_none_of_its_readings(tmp_path: Path) -> None:
    gpu, time_source, sampler = open_gpu(tmp_path, "h100")
    work(gpu, time_source, tmp_path, 1.0, 400.0)
    before_ns = time_source.now_ns()
    sampler.use(sampler.sensors)
    assert time_source.now_ns() == before_ns
    work(gpu, time_source, tmp_path, 1.0, 600.0)
    powers = sampler.take().drop_nulls("power_w")
    assert powers.height == pytest.approx(20, abs=2)
    assert max(b - a for a, b in pairwise(powers["time_ns"])) <= 151_000_000


def test_samples_that_average_are_waited_for_until_they_look_back_no_further(tmp_path: Path) -> None:
    _, time_source, sampler = open_gpu(tmp_path, "h200")
    time_source.sleep(1.0)
    found = sampler.sensors
    samples = replace(found.sensors["samples"], averaging_window_s=0.02)
    sampler.use(replace(found, sensors={**found.sensors, "samples": samples}))
    end_ns = time_source.now_ns()
    assert sampler.wait_covered(end_ns)
    # A mean is moved to the middle of its interval: a last sample at the very end would not cover the end.
    assert estimate_trace(sampler.take(), end_ns - 500_000_000, end_ns, sampler.sensors).energy_j > 0
