"""The factory that opens GPUs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.hardware.factory import is_simulated, open_gpu, open_nvml
from runner.hardware.gpu import GpuAddress, NoGpuError
from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime, WallTime


def test_a_machine_without_a_driver_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SimulatedNvmlError(12)

    fake = SimpleNamespace(nvmlInit=refuse, NVMLError=SimulatedNvmlError)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with pytest.raises(NoGpuError, match="--gpu sim"):
        open_nvml("all", WallTime())


def test_requests_for_simulated_gpus_are_known() -> None:
    assert [is_simulated(request) for request in ("sim", "sim:h200x2", "all", "0", "simulated")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_gpu_is_opened_by_uuid_or_index_and_says_its_address(tmp_path: Path) -> None:
    by_index = open_gpu("sim:h200x2", 1, VirtualTime(), read_only=True, state_dir=tmp_path)
    by_uuid = open_gpu("sim:h200x2", "GPU-SIM-H200-1", VirtualTime(), read_only=False, state_dir=tmp_path)
    assert by_index.info == by_uuid.info
    assert (by_index.read_only, by_uuid.read_only) == (True, False)
    address = GpuAddress(request="sim:h200x2", uuid="GPU-SIM-H200-1", state_dir=tmp_path)
    assert by_index.address == by_uuid.address == address
    assert address.gpu_state_dir == tmp_path / "GPU-SIM-H200-1"


def test_a_real_gpu_has_an_address_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Real:
        """A simulated NVML without the attributes that a stand-in has."""

        def __init__(self) -> None:
            self._nvml = SimulatedNvml("sim", VirtualTime(), tmp_path)

        def __getattr__(self, name: str) -> object:
            if not name.lower().startswith("nvml"):
                raise AttributeError(name)
            return getattr(self._nvml, name)

    monkeypatch.setitem(sys.modules, "pynvml", Real())
    monkeypatch.delenv("SWEEP_SETTER", raising=False)
    gpu = open_gpu("nvidia", 0, WallTime(), read_only=True)
    assert gpu.address == GpuAddress(request="nvidia", uuid="GPU-SIM-H200-0", state_dir=None)
    assert gpu.address.gpu_state_dir is None
    assert not gpu.info.simulated


@pytest.mark.parametrize("module", ["nvml.gpu", "access.permission"])
def test_what_reads_a_real_gpu_imports_no_simulated_one(module: str) -> None:
    code = (
        f"import sys, runner.hardware.{module}; "
        "print([name for name in sys.modules if name.startswith(('runner.hardware.simulated', 'runner.physics'))])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
