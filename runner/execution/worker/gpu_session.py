"""A board in a worker's hands: opened, leased, its sensors looked at, and sampled until the worker lets it go.

A seat enters; what a bench needs of the board leaves. Next: `engine_slot.py` loads an engine on it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from runner.execution.driver.cluster import Seat
from runner.execution.worker.fingerprint import fingerprint
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.virtual_state import borrow_virtual_state
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.gpu import GpuInfo
from runner.hardware.nvml.cuda_device import require_same_board
from runner.hardware.nvml.gpu import NvmlGpu, open_nvml
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.sensors.sampler import PowerSampler
from runner.results.live import GpuView
from runner.results.measurement import Placement
from runner.results.sensors import SensorFindings
from runner.timebase import Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldBoard:
    """One board, its lease and its sampler."""

    gpu: NvmlGpu
    placement: Placement
    lease: ClockLease
    sampler: PowerSampler
    sensors_at_rest: SensorFindings
    """What the probe found before there was any load."""

    @property
    def info(self) -> GpuInfo:
        """What the board is."""
        return self.gpu.info


@contextmanager
def hold_board(
    seat: Seat, clock: Clock, reporter: Reporter, *, engine: str, read_only: bool, driver_process_id: int | None
) -> Iterator[HeldBoard]:
    """Take a seat's board; at the end put it back as it was.

    Args:
        reporter: tells that the board is there, and streams its power.
        engine: "vllm", or "simulated" for a board of virtual time, whose state nobody else may share.
        driver_process_id: the driver, if it is on this host: when it dies, the guard restores the board.
    Raises: GpuError, LeaseHeldError, ValueError: the board cannot be had; GpuError, at the end: it cannot be put back.
    """
    with ExitStack() as resources:
        if not seat.info.simulated:
            # NVML counts boards in the order of the PCI bus; CUDA does so only when told to.
            os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(seat.info.index)}
            require_same_board(seat.info.uuid)
        state_dir = None if engine == "vllm" else resources.enter_context(borrow_virtual_state())
        gpu = NvmlGpu(open_nvml(seat.gpu_request, clock, state_dir), seat.info.uuid, read_only=read_only)
        info = gpu.info
        placement = Placement(
            gpu_uuids=(info.uuid,),
            gpu_name=info.name,
            host=socket.gethostname(),
            fingerprint=fingerprint(info, engine),
            simulated=info.simulated,
            simulated_time_scale=1.0 if info.simulated else None,
        )
        reporter.add_board(
            GpuView(
                gpu_uuid=info.uuid,
                label=seat.label,
                name=info.name,
                simulated=info.simulated,
                power_limit_w=gpu.read_power_limit_w(),
            )
        )
        owners = [os.getpid()] + ([driver_process_id] if driver_process_id else [])
        lease = resources.enter_context(ClockLease(gpu, owner_pids=owners))
        sensors = probe_sensors(gpu, clock)
        sampler = PowerSampler(gpu, clock, on_batch=reporter.send_power, sensors=sensors)
        sampler.start()
        resources.callback(sampler.stop)
        yield HeldBoard(gpu=gpu, placement=placement, lease=lease, sampler=sampler, sensors_at_rest=sensors)
