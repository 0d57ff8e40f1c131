"""Checks that CUDA will use the GPU that NVML reads. The two count GPUs differently, so CUDA itself is asked."""

import subprocess
import sys
import uuid

from runner.hardware.gpu import GpuError

_LIMIT_S = 60
# It runs in a process of its own: CUDA in this process would leave a context in the worker.
_PROGRAM = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
gpu, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
for result in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(gpu), 0), cuda.cuDeviceGetUuid(raw, gpu)):
    if result:
        raise SystemExit(f"CUDA error {result}")
print(bytes(raw).hex())
"""


def read_cuda_uuid() -> str:
    """Return the UUID, as NVML writes it, of the first GPU that CUDA shows to a child of this process.

    Raises: GpuError: CUDA shows none, or does not answer.
    """
    command = [sys.executable, "-c", _PROGRAM]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise GpuError(f"CUDA did not answer within {_LIMIT_S} s: see dmesg, and whether nvidia-smi answers") from None
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise GpuError(f"CUDA shows no usable GPU: {said[-1] if said else f'exit status {result.returncode}'}")
    return f"GPU-{uuid.UUID(result.stdout.strip())}"


def require_same_gpu(gpu_uuid: str) -> None:
    """Check that CUDA's first GPU is this one. Raises: GpuError: CUDA would compute on another GPU."""
    cuda_uuid = read_cuda_uuid()
    if cuda_uuid.lower() != gpu_uuid.lower():
        raise GpuError(
            f"CUDA's first GPU is {cuda_uuid}, but {gpu_uuid} is the GPU to measure: "
            "check CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER"
        )
