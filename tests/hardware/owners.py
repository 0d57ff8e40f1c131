"""Processes that hold a lease on a simulated GPU and can be killed, and readings of that GPU."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runner.hardware.clocks.journal import journal_path
from runner.hardware.clocks.processes import identify_process
from runner.hardware.factory import open_gpu as open_any_gpu
from runner.hardware.gpu import Gpu, GpuAddress
from runner.physics.gpu_state import GpuState
from runner.timebase import WallTime

OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.factory import open_gpu
from runner.spec.operating_point import OperatingPoint
from runner.timebase import WallTime

state_dir, journal_dir, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
drivers = [int(pid) for pid in sys.argv[4:]]
gpu = open_gpu("sim", 0, WallTime(), read_only=mode == "read-only", state_dir=state_dir)
lease = ClockLease(gpu, owner_pids=[os.getpid(), *drivers], journal_dir=journal_dir)
lease.acquire()
marked = subprocess.Popen(["sleep", "600"])
forked = os.fork()
if forked == 0:
    time.sleep(600)
    os._exit(0)
if mode == "apply":
    lease.apply(OperatingPoint(sm_clock_mhz=1200, power_limit_w=500.0))
print(lease._guard.pid, marked.pid, forked, flush=True)
time.sleep(600)
"""


class Owner:
    """A process that holds a lease and has two children, as an engine's parent does.

    `mode` is "apply" (it has locked the GPU), "default" (it may and has not) or "read-only".
    """

    def __init__(self, state_dir: Path, journal_dir: Path, mode: str = "apply", drivers: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(state_dir), str(journal_dir), mode, *map(str, drivers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        pids = [int(pid) for pid in self.process.stdout.readline().split()]
        self.guard, self.marked, self.forked = (identify_process(pid) for pid in pids)
        self.worker = identify_process(self.process.pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_with_guard(self) -> None:
        """Kill the guard and its owner so that neither sees the other die. A stopped guard lives, and does nothing."""
        assert self.guard is not None
        os.kill(self.guard.pid, signal.SIGSTOP)
        self.kill()
        os.kill(self.guard.pid, signal.SIGKILL)


def open_gpu(folders: tuple[Path, Path], *, read_only: bool = False) -> Gpu:
    return open_any_gpu("sim", 0, WallTime(), read_only=read_only, state_dir=folders[0])


def gpu_settings(folders: tuple[Path, Path]) -> tuple[int | None, float | None]:
    last = GpuState(folders[0] / "GPU-SIM-H200-0").settings_history()[-1]
    return last.sm_clock_mhz, last.power_limit_w


def path_of(folders: tuple[Path, Path]) -> Path:
    return journal_path(folders[1], GpuAddress(request="sim", uuid="GPU-SIM-H200-0", state_dir=folders[0]))


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Wait until a condition holds. It takes tenths of a second on a quiet machine, and much longer on a busy one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
