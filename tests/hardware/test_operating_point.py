"""Operating points of a sweep file in the values of a GPU."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuInfo, NotSupportedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.operating_point import resolve_operating_point
from runner.spec.operating_point import DEFAULT, OperatingPoint, RequestedPoint
from runner.timebase import VirtualTime


@pytest.fixture
def h200(tmp_path: Path) -> GpuInfo:
    return NvmlGpu(open_nvml("sim", VirtualTime(), tmp_path), 0, read_only=True).info


def resolve(
    info: GpuInfo, sm_clock: str | int = DEFAULT, mem_clock: str | int = DEFAULT, power_limit: str | float = DEFAULT
) -> OperatingPoint:
    requested = RequestedPoint(sm_clock=sm_clock, mem_clock=mem_clock, power_limit=power_limit)
    return resolve_operating_point(info, requested)


@pytest.mark.parametrize(
    ("asked", "clock_mhz"),
    [
        ("default", None),
        ("100%", 1980),
        ("60%", 1185),  # 1188
        ("40%", 795),  # 792
        (1200, 1200),
        ("1207", 1200),
        (1208, 1215),
        (320, 345),
        (2100, 1980),
    ],
)
def test_sm_clocks_are_snapped(h200: GpuInfo, asked: str | int, clock_mhz: int | None) -> None:
    assert resolve(h200, asked) == OperatingPoint(sm_clock_mhz=clock_mhz)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (300, "300"),
        (2200, "2200"),
        ("10%", '"10%" (198 MHz)'),
        ("120%", '"120%" (2376 MHz)'),
        (-5, "-5"),
        ("nan", "nan"),
    ],
)
def test_clocks_far_outside_name_the_range(h200: GpuInfo, asked: str | int, shown: str) -> None:
    message = f"sm_clock = {shown} is out of range: Simulated NVIDIA H200 supports 345 to 1980 MHz"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resolve(h200, asked)


@pytest.mark.parametrize("asked", ["fast", "%", "", "60 per cent"])
def test_words_that_are_no_clock(h200: GpuInfo, asked: str) -> None:
    with pytest.raises(ValueError, match=f"sm_clock = {asked!r} is not allowed"):
        resolve(h200, asked)


def test_memory_and_power(h200: GpuInfo) -> None:
    request = resolve(h200, DEFAULT, "70%", "80%")
    assert (request.mem_clock_mhz, request.power_limit_w) == (2201, 560.0)
    assert resolve(h200, DEFAULT, 3201, 350).power_limit_w == 350.0
    with pytest.raises(ValueError, match="200 to 700 W"):
        resolve(h200, power_limit=150)
    with pytest.raises(ValueError, match="power_limit"):
        resolve(h200, power_limit="nan")


def test_sm_clocks_are_those_of_the_memory_clock(h200: GpuInfo) -> None:
    low = replace(h200, sm_clocks_at_mem_mhz=((2201, (345, 360, 375)),))
    assert resolve(low, "60%", 3201).sm_clock_mhz == 1185
    assert resolve(low, 370, 2201).sm_clock_mhz == 375
    assert resolve(low, "spaced 1/2", 2201).sm_clock_mhz == 375
    with pytest.raises(ValueError, match=r"\(1188 MHz\) is out of range: .* 345 to 375 MHz at 2201 MHz of memory"):
        resolve(low, "60%", 2201)


def test_spaced_clocks_run_from_the_highest_to_the_lowest(h200: GpuInfo) -> None:
    requests = [resolve(h200, f"spaced {k}/8", f"spaced {1 + k // 5}/2") for k in range(1, 9)]
    clocks = [request.sm_clock_mhz for request in requests]
    gaps = [a - b for a, b in pairwise(clocks)]
    assert (clocks[0], clocks[-1]) == (1980, 345)
    assert 0 < max(gaps) - min(gaps) <= 15
    assert set(clocks) <= set(h200.sm_clocks_mhz)
    assert [request.mem_clock_mhz for request in requests] == [3201] * 4 + [2201] * 4


def test_gpus_without_an_axis_say_so(h200: GpuInfo) -> None:
    bare = replace(h200, sm_clocks_mhz=(), mem_clocks_mhz=(3201,), power_limit_min_w=None)
    assert resolve(bare, "default", "default", "default").is_default
    with pytest.raises(
        NotSupportedError, match=r"which clocks it supports \(nvmlDeviceGetSupportedGraphicsClocks\): leave"
    ):
        resolve(bare, "60%")
    with pytest.raises(NotSupportedError, match=r"nvmlDeviceGetSupportedMemoryClocks"):
        resolve(replace(bare, mem_clocks_mhz=()), "60%")
    with pytest.raises(NotSupportedError, match="one memory clock, 3201 MHz"):
        resolve(bare, DEFAULT, "100%")
    with pytest.raises(NotSupportedError, match="no power limit"):
        resolve(bare, power_limit="80%")
    without_default = replace(h200, power_limit_default_w=None)
    with pytest.raises(NotSupportedError, match="nvmlDeviceGetPowerManagementDefaultLimit"):
        resolve(without_default, power_limit="80%")
    assert resolve(without_default, power_limit=500).power_limit_w == 500.0
    with pytest.raises(NotSupportedError, match="does not say"):
        resolve(bare, "spaced 1/2")
    with pytest.raises(NotSupportedError, match="one memory clock"):
        resolve(bare, DEFAULT, "spaced 1/2")
