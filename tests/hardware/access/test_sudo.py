"""Settings through sudo, with a `sudo` of our own in the PATH. No real sudo starts, and no GPU is set."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.hardware.access.sudo import SudoNvml, find_forbidden, uses_sudo
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuLostError, NotSupportedError, PermissionDeniedError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.module import SimulatedNvml
from runner.spec.operating_point import OperatingPoint
from runner.timebase import VirtualTime, WallTime

ROOT = Path(__file__).parents[3]
SMI = "-n /usr/bin/nvidia-smi --id=GPU-SIM-H200-0"

Answer = Callable[..., None]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which each sudo writes its arguments, in a line."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls.txt"


@pytest.fixture
def answer(tmp_path: Path, calls: Path) -> Answer:
    """Set the exit code and the output of sudo. Where its arguments contain `refused` it ends with 1."""

    def write(code: int = 0, stdout: str = "All done.", refused: str = "nothing") -> None:
        path = tmp_path / "bin" / "sudo"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in *{refused}*) echo \'sudo: a password is required\' >&2;'
            f" exit 1;; esac\necho '{stdout}'\nexit {code}\n"
        )
        path.chmod(0o755)

    return write


@pytest.fixture
def gpu(tmp_path: Path) -> NvmlGpu:
    nvml = SudoNvml(SimulatedNvml("sim", VirtualTime(), tmp_path / "gpus", may_set=False))
    return NvmlGpu(nvml, 0, read_only=False)


def test_every_setting_goes_through_sudo_and_readings_do_not(gpu: NvmlGpu, answer: Answer, calls: Path) -> None:
    answer()
    gpu.read_state()
    assert gpu.read_energy_counter_j() == 0.0
    assert not calls.exists()
    gpu.apply(OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201, power_limit_w=412.5))
    gpu.reset(None)
    assert calls.read_text().splitlines() == [
        f"{SMI} --lock-memory-clocks=2201,2201",
        f"{SMI} --lock-gpu-clocks=1200,1200",
        f"{SMI} --power-limit=412.500",
        f"{SMI} --reset-gpu-clocks",
        f"{SMI} --reset-memory-clocks",
    ]


def test_find_forbidden_asks_about_what_is_set_and_the_documented_rule_allows_just_that(
    gpu: NvmlGpu, answer: Answer, calls: Path
) -> None:
    answer()
    assert find_forbidden(["GPU-SIM-H200-0"]) is None
    asked = calls.read_text().splitlines()
    assert all(line.startswith("-n -l ") for line in asked)
    calls.unlink()
    gpu.apply(OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201, power_limit_w=412.5))
    gpu.reset(None)
    done = calls.read_text().splitlines()
    kinds = [{re.sub("[0-9.,]+$", "", line.rpartition(" ")[2]) for line in lines} for lines in (asked, done)]
    assert kinds[0] == kinds[1]

    documented = re.search(r"nvidia-smi \^(.*)\$\n", (ROOT / "docs" / "permissions.md").read_text())
    assert documented is not None
    uuid = "--id=GPU-1a2b3c4d-0000-1111-2222-333344445555"
    options = [line.rpartition(" ")[2] for line in done]
    assert all(re.fullmatch(documented[1], f"{uuid} {option}") for option in options)
    for other in ("--gpu-reset", "--reset-gpu-clocks --gpu-reset", "--lock-gpu-clocks=1,1 -pm 0", "--power-limit="):
        assert not re.fullmatch(documented[1], f"{uuid} {other}")


def test_what_sudo_does_not_allow_is_found_without_setting_anything(gpu: NvmlGpu, answer: Answer, calls: Path) -> None:
    answer(refused="--reset-memory")
    found = find_forbidden(["GPU-1", "GPU-2"])
    assert found == "sudo does not allow /usr/bin/nvidia-smi --id=GPU-1 --reset-memory-clocks without a password"
    assert all(line.startswith("-n -l ") for line in calls.read_text().splitlines())


@pytest.mark.parametrize(
    ("code", "stdout", "error"),
    [
        (1, "", PermissionDeniedError),
        (3, "", NotSupportedError),
        (4, "", PermissionDeniedError),
        (15, "", GpuLostError),
        (0, "Setting locked GPU clocks is not supported. Treating as warning and moving on.", NotSupportedError),
    ],
)
def test_how_nvidia_smi_ends_is_a_typed_error(
    gpu: NvmlGpu, answer: Answer, code: int, stdout: str, error: type[Exception]
) -> None:
    answer(code, stdout)
    with pytest.raises(error):
        gpu.apply(OperatingPoint(sm_clock_mhz=1200))


def test_without_sudo_the_message_says_so(gpu: NvmlGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermissionDeniedError, match="SWEEP_SETTER=sudo, but sudo does not answer"):
        gpu.apply(OperatingPoint(sm_clock_mhz=1200))


def test_sudo_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(nvmlInit=lambda: None, NVMLError=Exception)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("SWEEP_SETTER", raising=False)
    assert open_nvml("nvidia", WallTime()) is fake
    monkeypatch.setenv("SWEEP_SETTER", "sudo")
    assert isinstance(open_nvml("nvidia", WallTime()), SudoNvml)
    monkeypatch.setenv("SWEEP_SETTER", "su")
    with pytest.raises(ValueError, match="SWEEP_SETTER is 'su'; it may be sudo"):
        uses_sudo()
