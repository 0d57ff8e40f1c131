"""What must be done after an owner's death: end its engine's processes, and put back its GPU's clocks and limit.

The guard does it at once. Otherwise the next lease on the GPU does it, or `sweep doctor --reset-clocks`.
"""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runner.hardware.access.read_only import CLOCKS_VARIABLE, environment_forbids_setting
from runner.hardware.clocks.journal import LeaseJournal, find_journal_dir, hold_journal, read_journal
from runner.hardware.clocks.processes import (
    ProcessId,
    find_descendants,
    find_marked,
    is_alive,
    kill_process,
    runs_module,
    wait_gone,
)
from runner.hardware.factory import open_gpu
from runner.hardware.gpu import Gpu, GpuError
from runner.timebase import WallTime

LEASE_VARIABLE = "SWEEP_LEASE_ID"
"""Holds the ids of a process's leases. Children inherit it, so an engine can be found after its parent has died."""
GUARD_MODULE = "runner.hardware.clocks.guard"


def end_orphans(journal: LeaseJournal) -> list[ProcessId]:
    """End the processes that a dead worker left, and return them: its descendants, and those with the lease's mark."""
    spared = {os.getpid(), *(owner.pid for owner in journal.owners)}
    ended: set[ProcessId] = set()
    while True:
        found = {*journal.descendants, *find_marked(LEASE_VARIABLE, journal.lease_id)}
        found |= find_descendants(found)
        # A guard of another GPU may have been seen as a child of the worker. It still has its own GPU to watch.
        new = {p for p in found - ended if is_alive(p) and p.pid not in spared and not runs_module(p, GUARD_MODULE)}
        for process in new:
            kill_process(process)
        for process in new:
            wait_gone(process, 2.0)
        ended |= new
        if not new:
            return sorted(ended)


def restore_gpu(journal: LeaseJournal, gpu: Gpu | None = None) -> None:
    """Put back what a lease set. A read-only lease has set nothing.

    Args:
        gpu: the lease's GPU, where it is open; by default it is opened.
    Raises: ReadOnlyError: SWEEP_CLOCKS forbids it now. GpuError: the GPU refuses.
    """
    if journal.read_only or not journal.changed:
        return
    if gpu is None:
        state_dir = None if journal.state_dir is None else Path(journal.state_dir)
        gpu = open_gpu(journal.nvml_request, journal.gpu_uuid, WallTime(), read_only=False, state_dir=state_dir)
    gpu.reset(journal.prior_power_limit_w, journal.changed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """What became of a lease that was found."""

    journal: Path
    account: str
    """What became of it, in a line."""
    failed: bool = False
    """Whether something could not be put back and is still owed."""


def restore_leftover(journal_dir: Path | None = None, allowed_uuids: Collection[str] | None = None) -> list[Settlement]:
    """Put back what dead owners left set on this machine, and return what became of each lease that was found.

    Args:
        allowed_uuids: the real GPUs that may be touched; None means all of this machine's.
    """
    settled = []
    for path in sorted(find_journal_dir(journal_dir).glob("*.json")):
        try:
            settled.append(Settlement(journal=path, account=_settle(path, allowed_uuids)))
        except GpuError as error:
            account = f"{path.stem}: not restored: {error}"
            settled.append(Settlement(journal=path, account=account, failed=True))
    return [settlement for settlement in settled if settlement.account]


def _settle(path: Path, allowed_uuids: Collection[str] | None) -> str:
    with hold_journal(path):
        journal = read_journal(path)
        if journal is None:
            return ""
        if journal.worker_lives:
            return f"{journal.gpu_uuid}: held by {journal.describe()}; left alone"
        if journal.host != socket.gethostname():  # a journal folder that several machines share
            return f"{journal.gpu_uuid}: held by {journal.describe()}; run sweep doctor --reset-clocks there"
        if journal.state_dir is None and allowed_uuids is not None and journal.gpu_uuid not in allowed_uuids:
            return f"{journal.gpu_uuid}: left over by {journal.describe()}; not among the chosen GPUs, left alone"
        if journal.changed and environment_forbids_setting():
            return f"{journal.gpu_uuid}: still locked, and {CLOCKS_VARIABLE} forbids resetting it"
        num_ended = len(end_orphans(journal))
        restore_gpu(journal)
        path.unlink()
        what = "reset" if journal.changed else "nothing had been set"
        return f"{journal.gpu_uuid}: left over by {journal.describe()}; {what}, {num_ended} processes ended"
