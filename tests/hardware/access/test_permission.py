"""Whether clocks may be set, found without trying to. Real GPUs are records here, and no driver is asked."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.hardware.access import permission
from runner.hardware.access.permission import denied, find_obstacle
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuInfo
from runner.hardware.nvml.gpu import NvmlGpu
from runner.timebase import VirtualTime

FULL, WITHOUT_SYS_ADMIN = "000001ffffffffff", "00000000a80425fb"  # of root, and of root in Docker
OUTERMOST, NESTED = "0 0 4294967295", "0 1000 1"


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuInfo:
    for name in ("SWEEP_CLOCKS", "SWEEP_SIMULATED_PERMISSION", "SWEEP_SETTER"):
        monkeypatch.delenv(name, raising=False)
    return NvmlGpu(open_nvml("sim", VirtualTime(), tmp_path), 0, read_only=True).info


@pytest.fixture
def real(simulated: GpuInfo) -> GpuInfo:
    return replace(simulated, simulated=False, name="NVIDIA H200", uuid="GPU-1a2b")


@pytest.mark.parametrize(
    ("user", "capabilities", "uid_map", "words"),
    [
        (0, FULL, OUTERMOST, "None"),
        (1000, FULL, OUTERMOST, "None"),
        (1000, "0" * 16, OUTERMOST, "only root may set them, and this is user 1000"),
        (0, WITHOUT_SYS_ADMIN, OUTERMOST, "--cap-add SYS_ADMIN"),
        (0, FULL, NESTED, "--cap-add SYS_ADMIN"),  # root in its own user namespace only
    ],
)
def test_what_the_driver_will_ask_for_is_known_before(  # noqa: PLR0917 - a row of the table above
    real: GpuInfo, pretend: Callable[..., None], user: int, capabilities: str, uid_map: str, words: str
) -> None:
    pretend(user, capabilities, uid_map)
    assert words in str(find_obstacle([real]))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Act as another user with other capabilities."""

    def be(user: int, capabilities: str, uid_map: str) -> None:
        files = {"status": f"Name:\tsweep\nCapEff:\t{capabilities}\n", "uid_map": uid_map}
        monkeypatch.setattr(permission, "Path", lambda path: FakeFile(files[path.rpartition("/")[2]]))
        monkeypatch.setattr(os, "geteuid", lambda: user)

    return be


class FakeFile:
    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self) -> str:
        return self._text


def test_a_simulated_gpu_needs_nobodys_permission_unless_it_is_told_so(
    simulated: GpuInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission, "_has_sys_admin", lambda: False)
    assert find_obstacle([simulated]) is None
    monkeypatch.setenv("SWEEP_SIMULATED_PERMISSION", "denied")
    assert "SWEEP_SIMULATED_PERMISSION=denied" in str(find_obstacle([simulated]))
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    assert find_obstacle([simulated]) == "SWEEP_CLOCKS=read-only forbids it"


def test_the_error_says_what_is_missing_and_every_way_out() -> None:
    message = str(denied("only root may set them, and this is user 1000", "on node7"))
    assert message.startswith(
        "clocks and limits cannot be set on node7: only root may set them, and this is user 1000. Ways out: "
    )
    for way in ("run as root", "SWEEP_SETTER=sudo", "sudoers rule", "--clocks read-only", "docs/permissions.md"):
        assert way in message
