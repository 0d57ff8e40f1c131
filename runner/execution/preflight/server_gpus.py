"""The GPU of a server on this host: found by NVML among the server's processes, or named by the user."""

import os
import socket

from runner.execution.gpu_group import GpuGroup
from runner.hardware.access.permission import find_obstacle
from runner.hardware.factory import is_simulated, open_gpu
from runner.hardware.gpu import GpuError, GpuInfo, GpuLostError, NoGpuError
from runner.hardware.selection import find_gpus, require_readable
from runner.inference.server.address import ServerAddress
from runner.inference.server.processes import find_listeners, list_server_processes
from runner.timebase import WallTime

OPTION = "--server-gpus"


def find_server_group(address: ServerAddress, *, gpu: str, server_gpus: str | None) -> tuple[GpuGroup, bool]:
    """Return the group of the GPU that a server computes on, and whether the user named it.

    Args:
        gpu: "auto"; or a simulated GPU, which does none of the server's work.
        server_gpus: indices or UUIDs; None looks for the server's processes on the GPUs.
    Raises: ValueError: an option is wrong. GpuError: the GPU cannot be found, is one of several, or cannot be used.
    """
    if gpu != "auto" and not is_simulated(gpu):
        raise ValueError(f"--gpu {gpu} chooses GPUs for our own engines: with --server, give {OPTION} {gpu}")
    if is_simulated(gpu):
        if server_gpus is not None:
            raise ValueError(f"--gpu {gpu} and {OPTION} {server_gpus} contradict each other: give one of them")
        request, infos = find_gpus(gpu, None, WallTime())
    elif server_gpus is not None:
        require_readable(server_gpus, OPTION)
        request, infos = find_gpus(server_gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), WallTime())
    else:
        request, infos = _find_by_processes(address)
    if len(infos) > 1:
        numbers = ", ".join(str(info.index) for info in infos)
        raise GpuError(
            f"the server at {address.url} would be measured on GPUs {numbers}, and a run measures a server on one GPU: "
            f"serve the model on one GPU. {OPTION} must name all GPUs of a server, or its energy would be too small"
        )
    (info,) = infos
    group = GpuGroup(
        gpu_request=request,
        info=info,
        label=str(info.index),
        host=socket.gethostname(),
        obstacle=find_obstacle(infos),
    )
    return group, server_gpus is not None


def _find_by_processes(address: ServerAddress) -> tuple[str, list[GpuInfo]]:
    """Return the GPUs that list a process of the server. Raises: GpuError: there is none, or none can be seen."""
    advice = f"name its GPUs with {OPTION} 0; for a server that computes on the CPU, --gpu sim measures its times alone"
    try:
        request, infos = find_gpus("all", os.environ.get("CUDA_VISIBLE_DEVICES"), WallTime())
    except NoGpuError as error:
        raise NoGpuError(f"the GPU of the server at {address.url} cannot be found: {error}") from error
    listeners = find_listeners(address)
    if not listeners:
        raise NoGpuError(
            f"the process that listens on port {address.port} is not visible to this user (another user's, or in a "
            f"container), so its GPU cannot be found: {advice}"
        )
    own = list_server_processes(listeners)
    found = [info for info in infos if own & _list_processes(request, info)]
    if not found:
        ids = ", ".join(map(str, sorted(own)))
        raise NoGpuError(f"no GPU lists a process of the server at {address.url} (process ids {ids}): {advice}")
    return request, found


def _list_processes(request: str, info: GpuInfo) -> frozenset[int]:
    """Return the processes on a GPU; empty where the NVIDIA driver does not list them."""
    try:
        return frozenset(open_gpu(request, info.uuid, WallTime(), read_only=True).read_process_ids())
    except GpuLostError:
        raise
    except GpuError:
        return frozenset()
