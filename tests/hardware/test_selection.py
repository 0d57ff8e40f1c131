"""Which GPUs a run uses."""

from pathlib import Path

import pytest

from runner.hardware.factory import open_nvml
from runner.hardware.gpu import NoGpuError, NotSupportedError
from runner.hardware.selection import select_gpus
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime

U = "GPU-SIM-H200-"


@pytest.fixture
def nvml(tmp_path: Path) -> SimulatedNvml:
    return open_nvml("sim:h200x12", VirtualTime(), tmp_path)


@pytest.mark.parametrize(
    ("request_", "visible", "indices"),
    [
        ("all", None, list(range(12))),
        ("all", "3,1", [3, 1]),
        ("all", f"{U}2,0", [2, 0]),
        ("all", "1,99,2", [1]),  # CUDA stops at the first invalid entry
        ("all", "1,-1,2", [1]),
        ("all", f"1,{U},2", [1]),  # fits several GPUs
        ("all", "2,2", [2]),
        ("0,2", None, [0, 2]),
        ("2, 0, 2", None, [2, 0]),
        (f"{U}1", None, [1]),  # exactly one GPU, though other UUIDs begin so
        ("gpu-sim-h200-10".replace("gpu", "GPU"), None, [10]),
        ("4", f"4,{U}5", [4]),
    ],
)
def test_gpus_that_are_chosen(nvml: SimulatedNvml, request_: str, visible: str | None, indices: list[int]) -> None:
    assert [info.index for info in select_gpus(nvml, request_, visible)] == indices


def test_a_gpu_outside_the_list_is_never_touched(nvml: SimulatedNvml) -> None:
    with pytest.raises(NoGpuError, match=r"GPU 0 \(GPU-SIM-H200-0\) is outside CUDA_VISIBLE_DEVICES=2,3, .* 2, 3"):
        select_gpus(nvml, "2,0", "2,3")


@pytest.mark.parametrize("visible", ["", "-1", "99", "none"])
def test_a_list_that_allows_nothing(nvml: SimulatedNvml, visible: str) -> None:
    with pytest.raises(NoGpuError, match="allows none of this machine's 12 GPUs"):
        select_gpus(nvml, "all", visible)


def test_no_gpus_at_all(nvml: SimulatedNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 0)
    with pytest.raises(NoGpuError, match="shows no GPU"):
        select_gpus(nvml, "all", None)


@pytest.mark.parametrize("request_", ["12", f"{U}99", U])
def test_gpus_that_are_not_there(nvml: SimulatedNvml, request_: str) -> None:
    with pytest.raises(NoGpuError, match="names no GPU, or more than one"):
        select_gpus(nvml, request_, None)


@pytest.mark.parametrize("request_", ["", "0,", "first", "0-2", "-1", "²"])
def test_requests_that_cannot_be_read(nvml: SimulatedNvml, request_: str) -> None:
    with pytest.raises(ValueError, match="is not a GPU: give all, auto, sim"):
        select_gpus(nvml, request_, None)


def test_mig_instances_are_refused(nvml: SimulatedNvml) -> None:
    with pytest.raises(NotSupportedError, match="MIG instance"):
        select_gpus(nvml, "all", "MIG-1234")
