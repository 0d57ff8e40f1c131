"""A GPU in a worker's hands: opened, leased, probed, and sampled until the worker releases it.

A GPU group enters. A `GpuSession` leaves. Next: `engine_slot.py` loads an engine on the GPU.
"""

import fcntl
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.execution.gpu_group import GpuGroup
from runner.execution.worker.fingerprint import fingerprint
from runner.execution.worker.reporter import Reporter
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.factory import open_gpu
from runner.hardware.gpu import Gpu, GpuInfo
from runner.hardware.host.meter import HostMeter, find_host_meter
from runner.hardware.nvml.cuda_uuid import require_same_gpu
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.sampler import PowerSampler
from runner.inference.server.facts import AttachedServer
from runner.physics.gpu_state import simulated_state_dir
from runner.results.live import GpuView
from runner.results.measurement import Placement
from runner.results.sensors import SensorFindings
from runner.timebase import TimeSource


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSession:
    """One GPU, its lease and its sampler."""

    gpu: Gpu
    placement: Placement
    lease: ClockLease
    sampler: PowerSampler
    host: HostMeter
    sensors_at_rest: SensorFindings
    """The probe's findings without any load."""

    @property
    def info(self) -> GpuInfo:
        """The GPU's fixed facts."""
        return self.gpu.info


@contextmanager
def hold_gpu(
    group: GpuGroup,
    time_source: TimeSource,
    reporter: Reporter,
    *,
    engine: str,
    server: AttachedServer | None = None,
    read_only: bool,
    driver_process_id: int | None,
    num_workers_on_host: int = 1,
) -> Iterator[GpuSession]:
    """Take a GPU group's GPU. At the end, restore its settings.

    Args:
        reporter: announces the GPU, and streams its power.
        engine: "vllm", "server", or "simulated" for a GPU in virtual time, whose state belongs to one worker alone.
        server: the server that the run attaches to; None unless the engine is "server".
        driver_process_id: the driver, if it is on this host. When it dies, the guard restores the GPU.
        num_workers_on_host: the workers of this run on this host. They share the host's energy.
    Raises: GpuError, LeaseHeldError, ValueError: the GPU is not available. GpuError, at the end: its settings could
        not be restored.
    """
    with ExitStack() as resources:
        if not group.info.simulated and server is None:
            # NVML counts GPUs in the order of the PCI bus. CUDA does so only with this variable.
            os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(group.info.index)}
            require_same_gpu(group.info.uuid)
        state_dir = None if engine != "simulated" else resources.enter_context(_borrow_virtual_state())
        gpu = open_gpu(group.gpu_request, group.info.uuid, time_source, read_only=read_only, state_dir=state_dir)
        info = gpu.info
        placement = Placement(
            gpu_uuids=(info.uuid,),
            gpu_name=info.name,
            host=socket.gethostname(),
            fingerprint=fingerprint(info, f"server {server.facts.software}" if server else engine),
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
        host = _open_host_meter(info, time_source, num_workers_on_host)
        host.start()
        resources.callback(host.stop)
        yield GpuSession(gpu=gpu, placement=placement, lease=lease, sampler=sampler, host=host, sensors_at_rest=sensors)


def _open_host_meter(info: GpuInfo, time_source: TimeSource, num_workers: int) -> HostMeter:
    """Return the meter of this host; beside a simulated GPU one that reads nothing."""
    if info.simulated:
        reason = "the GPU is simulated: this host does not do the work of a GPU's host"
        return HostMeter((), time_source, num_workers=num_workers, reason=reason)
    return find_host_meter(time_source, num_workers=num_workers)


@contextmanager
def _borrow_virtual_state() -> Iterator[Path]:
    """Lend the first free folder for the state of GPUs in virtual time, without what its last holder left.

    Such a GPU runs ahead of the machine's time, so the next run must not find its future. Folders are numbered and used
    again, so that they do not pile up when runs are killed.
    """
    for number in itertools.count():
        directory = simulated_state_dir() / f"virtual-{number}"
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "holder.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for gpu in directory.glob("GPU-*"):
                shutil.rmtree(gpu, ignore_errors=True)
            yield directory
            return
