"""Which GPUs a run uses: of those that CUDA_VISIBLE_DEVICES allows, the ones that `--gpu` names."""

from typing import Any

from runner.hardware.factory import is_simulated, open_nvml
from runner.hardware.gpu import GpuInfo, NoGpuError, NotSupportedError
from runner.hardware.nvml.calls import call_nvml
from runner.hardware.nvml.info import as_text, open_handle, read_info
from runner.timebase import TimeSource


def find_gpus(gpu: str, cuda_visible_devices: str | None, time_source: TimeSource) -> tuple[str, list[GpuInfo]]:
    """Return what `factory.open_gpu` takes, and this machine's GPUs that a `--gpu` value means.

    "auto" means every GPU, or one simulated GPU where there is none.

    Args:
        gpu: "auto"; simulated GPUs such as "sim:h200x4"; or a request of `select_gpus`.
        cuda_visible_devices: the variable's value, or None. It says nothing about simulated GPUs.
    Raises: NoGpuError: there is none, or not that one. ValueError: the value cannot be read. NotSupportedError,
        GpuError: a GPU cannot be opened.
    """
    if is_simulated(gpu):
        return gpu, select_gpus(open_nvml(gpu, time_source), "all", None)
    try:
        nvml = open_nvml("nvidia", time_source)
        return "nvidia", select_gpus(nvml, "all" if gpu == "auto" else gpu, cuda_visible_devices)
    except NoGpuError:
        if gpu != "auto":
            raise
        return find_gpus("sim", None, time_source)


def select_gpus(nvml: Any, request: str, cuda_visible_devices: str | None) -> list[GpuInfo]:
    """Return the GPUs that a request names, in its order.

    Args:
        request: "all", or NVML indices and UUIDs, separated by commas. The beginning of a UUID will do where it fits
            one GPU only.
        cuda_visible_devices: the variable's value; None where it is not set, and for simulated GPUs. Its indices are
            read in the order of the PCI bus, which is CUDA's order only under CUDA_DEVICE_ORDER=PCI_BUS_ID.
    Raises: NoGpuError: no GPU may be used, or a named one does not exist or is outside cuda_visible_devices.
        ValueError: the request cannot be read. NotSupportedError: a chosen GPU is split by MIG.
    """
    uuids = _list_uuids(nvml)
    allowed = _allowed_indices(uuids, cuda_visible_devices)
    if not allowed:
        raise NoGpuError(_describe_none(uuids, cuda_visible_devices))
    chosen = allowed if request == "all" else _parse_request(request, uuids)
    for index in chosen:
        if index not in allowed:
            raise NoGpuError(
                f"GPU {index} ({uuids[index]}) is outside CUDA_VISIBLE_DEVICES={cuda_visible_devices}, which allows "
                f"{', '.join(map(str, allowed))} by NVML's count; such a GPU is never touched"
            )
    return [read_info(nvml, open_handle(nvml, index)) for index in chosen]


def require_readable(request: str, option: str = "--gpu") -> None:
    """Check the form of a request. Raises: ValueError: it is wrong on every machine. The message names the option."""
    if request == "all":
        return
    for entry in (part.strip() for part in request.split(",")):
        if not (entry.isascii() and entry.isdigit()) and not entry.startswith("GPU-"):
            words = "all, auto, sim, sim:h200x4, or " if option == "--gpu" else ""
            raise ValueError(
                f"{entry!r} in {option} {request!r} is not a GPU: give {words}indices and UUIDs separated by commas, "
                "such as 0,2 or GPU-1a2b3c4d"
            )


def _list_uuids(nvml: Any) -> list[str]:
    uuids = []
    for index in range(call_nvml(nvml, "nvmlDeviceGetCount")):
        uuid = call_nvml(nvml, "nvmlDeviceGetUUID", call_nvml(nvml, "nvmlDeviceGetHandleByIndex", index))
        uuids.append(as_text(uuid))
    return uuids


def _allowed_indices(uuids: list[str], cuda_visible_devices: str | None) -> list[int]:
    """Return NVML's indices of the GPUs that CUDA shows, in its order. CUDA stops at the first invalid entry."""
    if cuda_visible_devices is None:
        return list(range(len(uuids)))
    allowed: list[int] = []
    for entry in (part.strip() for part in cuda_visible_devices.split(",")):
        if entry.startswith("MIG-"):
            raise NotSupportedError(
                f"CUDA_VISIBLE_DEVICES names the MIG instance {entry}, which has no power or clocks of its own; "
                "name whole GPUs"
            )
        index = _find(entry, uuids)
        if index is None:
            break
        if index not in allowed:
            allowed.append(index)
    return allowed


def _parse_request(request: str, uuids: list[str]) -> list[int]:
    require_readable(request)
    chosen: list[int] = []
    for entry in (part.strip() for part in request.split(",")):
        index = _find(entry, uuids)
        if index is None:
            found = ", ".join(f"{i} ({uuid})" for i, uuid in enumerate(uuids))
            raise NoGpuError(f"{entry} names no GPU, or more than one; this machine has {found}")
        if index not in chosen:
            chosen.append(index)
    return chosen


def _find(entry: str, uuids: list[str]) -> int | None:
    """Return the index of the GPU that an index or a UUID's beginning means; None where it fits none or several."""
    if entry.isascii() and entry.isdigit():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith("GPU-"):
        return None
    if entry in uuids:
        return uuids.index(entry)
    fitting = [index for index, uuid in enumerate(uuids) if uuid.lower().startswith(entry.lower())]
    return fitting[0] if len(fitting) == 1 else None


def _describe_none(uuids: list[str], cuda_visible_devices: str | None) -> str:
    if not uuids:
        return "the NVIDIA driver shows no GPU on this machine; use one that has a GPU, or --gpu sim"
    return (
        f"CUDA_VISIBLE_DEVICES={cuda_visible_devices!r} allows none of this machine's {len(uuids)} GPUs; "
        "unset it or name GPUs that exist"
    )
