"""A GPU in a worker's hands: opened, leased, its sensors looked at, and sampled until the worker lets it go.

A GPU group enters; what a trial context needs of the GPU leaves. Next: `engine_slot.py` loads an engine on it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from runner.execution.driver.cluster import GpuGroup
from runner.execution.worker.fingerprint import fingerprint
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.virtual_state import borrow_virtual_state
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.gpu import GpuInfo
from runner.hardware.nvml.cuda_device import require_same_gpu
from runner.hardware.nvml.gpu import NvmlGpu, open_nvml
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.sampler import PowerSampler
from runner.results.live import GpuView
from runner.results.measurement import Placement
from runner.results.sensors import SensorFindings
from runner.timebase import TimeSource


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSession:
    """One GPU, its lease and its sampler."""

    gpu: NvmlGpu
    placement: Placement
    lease: ClockLease
    sampler: PowerSampler
    sensors_at_rest: SensorFindings
    """What the probe found before there was any load."""

    @property
    def info(self) -> GpuInfo:
        """What the GPU is."""
        return self.gpu.info


@contextmanager
def hold_gpu(
    group: GpuGroup,
    time_source: TimeSource,
    reporter: Reporter,
    *,
    engine: str,
    read_only: bool,
    driver_process_id: int | None,
) -> Iterator[GpuSession]:
    """Take a GPU group's GPU; at the end put it back as it was.

    Args:
        reporter: tells that the GPU is there, and streams its power.
        engine: "vllm", or "simulated" for a GPU of virtual time, whose state nobody else may share.
        driver_process_id: the driver, if it is on this host: when it dies, the guard restores the GPU.
    Raises: GpuError, LeaseHeldError, ValueError: the GPU cannot be had; GpuError, at the end: it cannot be put back.
    """
    with ExitStack() as resources:
        if not group.info.simulated:
            # NVML counts GPUs in the order of the PCI bus; CUDA does so only when told to.
            os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(group.info.index)}
            require_same_gpu(group.info.uuid)
        state_dir = None if engine == "vllm" else resources.enter_context(borrow_virtual_state())
        gpu = NvmlGpu(open_nvml(group.gpu_request, time_source, state_dir), group.info.uuid, read_only=read_only)
        info = gpu.info
        placement = Placement(
            gpu_uuids=(info.uuid,),
            gpu_name=info.name,
            host=socket.gethostname(),
            fingerprint=fingerprint(info, engine),
            simulated=info.simulated,
            simulated_time_scale=1.0 if info.simulated else None,
        )
        reporter.add_gpu(
            GpuView(
                gpu_uuid=info.uuid,
                label=group.label,
                name=info.name,
                simulated=info.simulated,
                power_limit_w=gpu.read_power_limit_w(),
            )
        )
        owners = [os.getpid()] + ([driver_process_id] if driver_process_id else [])
        lease = resources.enter_context(ClockLease(gpu, owner_pids=owners))
        sensors = probe_sensors(gpu, time_source)
        sampler = PowerSampler(gpu, time_source, on_batch=reporter.send_power, sensors=sensors)
        sampler.start()
        resources.callback(sampler.stop)
        yield GpuSession(gpu=gpu, placement=placement, lease=lease, sampler=sampler, sensors_at_rest=sensors)
