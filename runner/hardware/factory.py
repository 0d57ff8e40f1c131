"""The one factory that opens a GPU: a `--gpu` value enters, NVML or a `Gpu` leaves.

It alone knows both the real NVML and the simulated one.
"""

from pathlib import Path
from typing import Any

from runner.hardware.access.sudo import SudoNvml, uses_sudo
from runner.hardware.gpu import Gpu, NoGpuError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import TimeSource


def is_simulated(request: str) -> bool:
    """Return whether a `--gpu` value asks for simulated GPUs."""
    return request == "sim" or request.startswith("sim:")


def open_nvml(request: str, time_source: TimeSource, state_dir: Path | None = None) -> Any:
    """Return the NVML to use: a `SimulatedNvml` for "sim", "sim:h200x4" and the like, else `pynvml`, initialised.

    With SWEEP_SETTER=sudo, a real GPU is set and reset through sudo.

    Args:
        time_source: what tells the time of simulated GPUs. Real GPUs keep their own time.
        state_dir: the folder of the simulated GPUs' state, by default SWEEP_SIMULATED_STATE's.
    Raises: NoGpuError: there is no NVIDIA driver here. ValueError: as `SimulatedNvml`.
    """
    if is_simulated(request):
        return SimulatedNvml(request, time_source, state_dir)
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGpuError(
            f"no NVIDIA driver answers here (nvmlInit: {error}); use a machine with one, "
            "or --gpu sim for the simulated GPU"
        ) from error
    return SudoNvml(pynvml) if uses_sudo() else pynvml


def open_gpu(
    request: str,
    uuid_or_index: str | int,
    time_source: TimeSource,
    *,
    read_only: bool,
    state_dir: Path | None = None,
) -> Gpu:
    """Return one GPU, opened.

    Args:
        request: as for `open_nvml`.
        uuid_or_index: the GPU's UUID, or NVML's index.
        read_only: refuse to set anything. SWEEP_CLOCKS=read-only refuses too.
    Raises: NoGpuError, NotSupportedError, GpuLostError, GpuError: it cannot be opened. ValueError: as `SimulatedNvml`.
    """
    return NvmlGpu(open_nvml(request, time_source, state_dir), uuid_or_index, read_only=read_only)
