"""CUDA's first GPU: its UUID, and every way in which there may be none. CUDA itself does not start."""

import pytest

from runner.hardware.gpu import GpuError
from runner.hardware.nvml import cuda_uuid
from runner.hardware.nvml.cuda_uuid import read_cuda_uuid, require_same_gpu

UUID = "GPU-1a2b3c4d-0000-1111-2222-333344445555"


def answer(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(cuda_uuid, "_PROGRAM", program)


def test_the_uuid_is_written_as_nvml_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "print('1a2b3c4d000011112222333344445555')")
    assert read_cuda_uuid() == UUID
    require_same_gpu(UUID)
    require_same_gpu(UUID.upper().replace("GPU-", "gpu-"))


def test_another_gpu_is_an_error_that_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "print('1a2b3c4d000011112222333344445555')")
    with pytest.raises(GpuError, match=f"{UUID}, but GPU-other is the GPU to measure: check CUDA_VISIBLE_DEVICES"):
        require_same_gpu("GPU-other")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('CUDA error 100')", r"no usable GPU: CUDA error 100$"),
        ("import ctypes; ctypes.CDLL('libno-such-cuda.so.1')", r"no usable GPU: OSError: .*libno-such-cuda"),
        ("import os; os._exit(3)", r"no usable GPU: exit status 3$"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"no usable GPU: exit status -9$"),
    ],
)
def test_no_answer_is_an_error_with_the_last_thing_said(
    monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    answer(monkeypatch, program)
    with pytest.raises(GpuError, match=message):
        read_cuda_uuid()


def test_a_driver_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(cuda_uuid, "_LIMIT_S", 0.2)
    with pytest.raises(GpuError, match=r"did not answer within 0\.2 s"):
        read_cuda_uuid()
