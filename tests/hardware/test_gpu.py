"""The contract of `Gpu`, on each implementation: NvmlGpu with each driver, setter and kind of sensors."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from runner.hardware.access.sudo import SudoNvml
from runner.hardware.factory import open_gpu
from runner.hardware.gpu import (
    Gpu,
    NotSupportedError,
    PowerReading,
    ReadOnlyError,
    StateReading,
    ThrottleTimes,
)
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.module import SimulatedNvml
from runner.hardware.simulated.sensor_profiles import PROFILES
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason
from runner.timebase import VirtualTime

Open = Callable[..., Gpu]
POINT = OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201, power_limit_w=400.0)
IMPLEMENTATIONS = {
    "simulated NVML": lambda *args, **options: NvmlGpu(SimulatedNvml("sim", *args), 0, **options),
    "an old driver": lambda *args, **options: NvmlGpu(SimulatedNvml("sim", *args, has_successors=False), 0, **options),
    "sudo": lambda *args, **options: NvmlGpu(SudoNvml(SimulatedNvml("sim", *args)), 0, **options),
    "the factory": lambda time_source, state_dir, **options: open_gpu(
        "sim", 0, time_source, state_dir=state_dir, **options
    ),
    **{
        f"sensors of {profile}": lambda *args, profile=profile, **options: NvmlGpu(
            SimulatedNvml(f"sim:h200+{profile}", *args), 0, **options
        )
        for profile in PROFILES
    },
}


@pytest.fixture
def time_source() -> VirtualTime:
    return VirtualTime()


@pytest.fixture(params=IMPLEMENTATIONS)
def open_one(request: pytest.FixtureRequest, time_source: VirtualTime, tmp_path: Path) -> Open:
    """Opens the same GPU each time."""

    def open_it(*, read_only: bool = True) -> Gpu:
        return IMPLEMENTATIONS[request.param](time_source, tmp_path, read_only=read_only)

    return open_it


def num_settings(gpu: Gpu) -> int:
    assert gpu.address.gpu_state_dir is not None
    return len(GpuState(gpu.address.gpu_state_dir).settings_history())


def work(gpu: Gpu, time_source: VirtualTime) -> None:
    """Let two seconds pass while the GPU works at its power limit. The work lasts a little longer."""
    assert gpu.address.gpu_state_dir is not None
    activity = Activity(
        start_ns=time_source.now_ns(),
        end_ns=time_source.now_ns() + 2_050_000_000,
        power_w=700.0,
        sm_clock_mhz=1500,
        mem_clock_mhz=3201,
        throttle_reasons=ThrottleReason.POWER_CAP,
    )
    GpuState(gpu.address.gpu_state_dir).log_activity([activity])
    time_source.sleep(2.0)


def test_the_facts_stay_and_are_in_order(open_one: Open) -> None:
    gpu = open_one()
    info = gpu.info
    assert info is gpu.info
    assert info.uuid.startswith("GPU-")
    assert list(info.sm_clocks_mhz) == sorted(info.sm_clocks_mhz)
    assert list(info.mem_clocks_mhz) == sorted(info.mem_clocks_mhz)
    assert info.power_limit_min_w is not None
    assert info.power_limit_max_w is not None
    assert info.power_limit_min_w <= info.power_limit_max_w
    with pytest.raises(FrozenInstanceError):
        info.name = "another"  # type: ignore[misc]


def test_its_address_opens_the_same_gpu(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    address = gpu.address
    again = open_gpu(address.request, address.uuid, time_source, read_only=True, state_dir=address.state_dir)
    assert (again.info, again.address) == (gpu.info, address)
    assert address.uuid == gpu.info.uuid


def test_readings_are_in_w_j_s_and_ns(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    time_source.sleep(1.0)
    begin_ns = time_source.now_ns()
    work(gpu, time_source)
    readings: list[PowerReading] = []
    for read in (gpu.read_instant_power, gpu.read_average_power, lambda: gpu.read_power_samples(begin_ns)):
        try:
            answer: Any = read()
        except NotSupportedError:  # these sensors lack it
            continue
        readings += answer if isinstance(answer, list) else [answer]
    assert all(begin_ns < reading.time_ns <= time_source.now_ns() for reading in readings)
    assert all(79.0 <= reading.power_w <= 700.0 for reading in readings)


def test_samples_come_once_and_in_order(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    time_source.sleep(1.0)
    try:
        samples = gpu.read_power_samples(0)
    except NotSupportedError:
        pytest.skip("no sample buffer")
    stamps_ns = [sample.time_ns for sample in samples]
    assert stamps_ns == sorted(set(stamps_ns))
    assert gpu.read_power_samples(stamps_ns[-1]) == []


def test_the_state_says_why_a_clock_is_low(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    assert gpu.read_state() == StateReading(
        time_ns=time_source.now_ns(),
        sm_clock_mhz=345,
        mem_clock_mhz=3201,
        temperature_c=32,
        throttle_reasons=ThrottleReason.IDLE,
    )
    work(gpu, time_source)
    state = gpu.read_state()
    assert (state.sm_clock_mhz, state.throttle_reasons) == (1500, ThrottleReason.POWER_CAP)
    assert isinstance(state.throttle_reasons, ThrottleReason)


def test_counters_only_grow(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    assert gpu.read_throttle_times() == ThrottleTimes(power_s=0.0, thermal_s=0.0, other_s=0.0)
    work(gpu, time_source)
    assert gpu.read_throttle_times() == ThrottleTimes(power_s=2.0, thermal_s=0.0, other_s=0.0)
    try:
        energy_j = gpu.read_energy_counter_j()
    except NotSupportedError:
        pytest.skip("no energy counter")
    assert energy_j == pytest.approx(1400.0)
    time_source.sleep(1.0)
    assert gpu.read_energy_counter_j() > energy_j


def test_limit_memory_and_processes_are_read(open_one: Open) -> None:
    gpu = open_one()
    assert (gpu.read_power_limit_w(), gpu.read_memory_used_bytes(), gpu.read_process_ids()) == (700.0, 0, [])


@pytest.mark.parametrize(
    "point",
    [OperatingPoint(sm_clock_mhz=1201), OperatingPoint(mem_clock_mhz=3000), OperatingPoint(power_limit_w=100.0)],
)
def test_what_is_not_supported_is_refused_and_nothing_is_set(open_one: Open, point: OperatingPoint) -> None:
    gpu = open_one(read_only=False)
    gpu.check(OperatingPoint())
    gpu.check(POINT)
    for refuse in (gpu.check, gpu.apply):
        with pytest.raises(ValueError, match="this GPU"):
            refuse(point)
    assert num_settings(gpu) == 1


@pytest.mark.parametrize("by", ["the caller", "the environment"])
def test_read_only_sets_nothing(open_one: Open, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = open_one(read_only=by == "the caller")
    if by == "the environment":
        assert not gpu.read_only
        monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    assert gpu.read_only
    gpu.check(POINT)  # which sets nothing
    for refused in (lambda: gpu.apply(POINT), lambda: gpu.reset(None), lambda: gpu.reset(700.0, ["sm_clock"])):
        with pytest.raises(ReadOnlyError):
            refused()
    assert num_settings(gpu) == 1


def test_an_operating_point_is_set_and_reset(
    open_one: Open, time_source: VirtualTime, request: pytest.FixtureRequest
) -> None:
    if "sudo" in request.node.callspec.params.values():
        pytest.skip("nvidia-smi would set a real GPU")
    gpu = open_one(read_only=False)
    gpu.apply(POINT)
    time_source.sleep(1.0)
    state = gpu.read_state()
    assert (state.sm_clock_mhz, state.mem_clock_mhz, gpu.read_power_limit_w()) == (1200, 2201, 400.0)
    gpu.reset(700.0, ["mem_clock"])
    time_source.sleep(1.0)
    state = gpu.read_state()
    assert (state.sm_clock_mhz, state.mem_clock_mhz, gpu.read_power_limit_w()) == (1200, 3201, 400.0)
    gpu.reset(700.0)
    time_source.sleep(1.0)
    assert (gpu.read_state().sm_clock_mhz, gpu.read_power_limit_w()) == (345, 700.0)


def test_the_memory_draws_a_part_of_the_power(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    work(gpu, time_source)
    try:
        reading = gpu.read_memory_power()
    except NotSupportedError:
        pytest.skip("the memory is not told from the rest")
    assert 0 < reading.power_w < 700
    assert time_source.now_ns() - 200_000_000 <= reading.time_ns <= time_source.now_ns()


def test_activity_lies_between_two_marks(open_one: Open, time_source: VirtualTime) -> None:
    gpu = open_one()
    try:
        first = gpu.mark_activity()
    except NotSupportedError:
        pytest.skip("no activity counters")
    work(gpu, time_source)
    activity = gpu.read_activity(first, gpu.mark_activity())
    fractions = (activity.tensor_active_fraction, activity.dram_active_fraction, activity.sm_active_fraction)
    assert all(fraction is not None and 0 <= fraction <= 1 for fraction in fractions)
    assert activity.activity_reason is None
