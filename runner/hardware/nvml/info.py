"""A GPU's handle in NVML, and its fixed facts, read once: an index or a UUID enters, MHz, W and bytes leave."""

from typing import Any

from runner.hardware.gpu import GpuInfo, NotSupportedError
from runner.hardware.nvml.calls import call_nvml, read_or_none


def open_handle(nvml: Any, uuid_or_index: str | int) -> Any:
    """Return NVML's handle of a GPU, by its full UUID or by NVML's index.

    Raises: NotSupportedError: the GPU is split by MIG. GpuLostError, GpuError.
    """
    kind = "Index" if isinstance(uuid_or_index, int) else "UUID"
    handle = call_nvml(nvml, f"nvmlDeviceGetHandleBy{kind}", uuid_or_index)
    _refuse_mig(nvml, handle)
    return handle


def read_info(nvml: Any, handle: Any) -> GpuInfo:
    """Return what does not change about a GPU; a fact that the GPU does not report is None or empty.

    Raises: GpuLostError; GpuError: it does not say its UUID, index, name or driver.
    """
    mem_clocks_mhz = sorted(set(read_or_none(nvml, "nvmlDeviceGetSupportedMemoryClocks", handle) or ()))
    sm_clocks_mhz = {mhz: _read_sm_clocks(nvml, handle, mhz) for mhz in mem_clocks_mhz}
    highest_mhz = sm_clocks_mhz[mem_clocks_mhz[-1]] if mem_clocks_mhz else ()
    constraints = read_or_none(nvml, "nvmlDeviceGetPowerManagementLimitConstraints", handle) or (None, None)
    memory = read_or_none(nvml, "nvmlDeviceGetMemoryInfo", handle)
    persistence = read_or_none(nvml, "nvmlDeviceGetPersistenceMode", handle)
    return GpuInfo(
        uuid=as_text(call_nvml(nvml, "nvmlDeviceGetUUID", handle)),
        index=call_nvml(nvml, "nvmlDeviceGetIndex", handle),
        name=as_text(call_nvml(nvml, "nvmlDeviceGetName", handle)),
        driver_version=as_text(call_nvml(nvml, "nvmlSystemGetDriverVersion")),
        simulated=getattr(nvml, "simulated", False),
        sm_clocks_mhz=highest_mhz,
        mem_clocks_mhz=tuple(mem_clocks_mhz),
        sm_clocks_at_mem_mhz=tuple((mem, sm) for mem, sm in sm_clocks_mhz.items() if sm != highest_mhz),
        power_limit_min_w=as_watts(constraints[0]),
        power_limit_max_w=as_watts(constraints[1]),
        power_limit_default_w=as_watts(read_or_none(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        memory_total_bytes=None if memory is None else int(memory.total),
        persistence_mode=None if persistence is None else persistence == 1,
    )


def as_watts(milliwatts: int | None) -> float | None:
    """Return W."""
    return None if milliwatts is None else milliwatts / 1000


def as_text(value: str | bytes) -> str:
    """Return a text of NVML, which some versions of nvidia-ml-py give as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _read_sm_clocks(nvml: Any, handle: Any, mem_clock_mhz: int) -> tuple[int, ...]:
    return tuple(sorted(set(read_or_none(nvml, "nvmlDeviceGetSupportedGraphicsClocks", handle, mem_clock_mhz) or ())))


def _refuse_mig(nvml: Any, handle: Any) -> None:
    try:
        mode = call_nvml(nvml, "nvmlDeviceGetMigMode", handle)
    except NotSupportedError:  # a GPU that cannot be split
        return
    if mode[0] == 1:
        raise NotSupportedError(
            "this GPU is split by MIG, and its instances have no power or clocks of their own; "
            "choose another GPU, or switch MIG off"
        )
