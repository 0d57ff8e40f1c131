"""The meter of the host that a worker opens beside its GPU."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from runner.execution.worker import gpu_session
from runner.hardware.factory import open_gpu
from runner.hardware.gpu import GpuInfo
from runner.hardware.host.meter import find_host_meter
from runner.timebase import VirtualTime
from tests.hardware.host.trees import write_zone


@pytest.fixture
def info(tmp_path: Path) -> GpuInfo:
    return open_gpu("sim", 0, VirtualTime(), read_only=True, state_dir=tmp_path / "gpus").info


def test_beside_a_simulated_gpu_the_host_is_not_read(
    info: GpuInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0")
    monkeypatch.setattr(gpu_session, "find_host_meter", partial(find_host_meter, root=tmp_path))
    host = gpu_session._open_host_meter(info, VirtualTime(), 1)
    energy = host.compare(host.read(), host.read())
    assert energy.energy_j is None
    assert str(energy.reason).startswith("the GPU is simulated")


def test_beside_a_real_gpu_it_is_read_and_shared(
    info: GpuInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0")
    monkeypatch.setattr(gpu_session, "find_host_meter", partial(find_host_meter, root=tmp_path))
    host = gpu_session._open_host_meter(replace(info, simulated=False), VirtualTime(), 4)
    energy = host.compare(host.read(), host.read())
    assert (energy.energy_j, energy.num_workers, energy.zones) == (0.0, 4, ("package-0",))
