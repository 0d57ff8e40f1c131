"""ClockLease: the right to set a GPU's clocks, and the duty to put them back whatever happens.

An open GPU and the processes that use it enter. A journal on disk says what must be put back, and is written before
anything is set. A guard process puts it back when an owner dies, also by SIGKILL. Next: `execution` sets the operating
point of each trial through `apply`.
"""

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from runner.hardware.clocks.gpu_lock import find_locker, lock_gpu
from runner.hardware.clocks.journal import (
    LeaseJournal,
    find_journal_dir,
    hold_journal,
    journal_path,
    read_journal,
    read_sound_journal,
    write_journal,
)
from runner.hardware.clocks.processes import ProcessId, identify_process, is_alive, read_boot_id
from runner.hardware.clocks.recovery import GUARD_MODULE, LEASE_VARIABLE, end_orphans, restore_gpu
from runner.hardware.gpu import Gpu, GpuError, NotSupportedError, PermissionDeniedError, ReadOnlyError
from runner.spec.operating_point import OperatingPoint, Setting

GUARD_START_LIMIT_S = 30.0
GUARD_AT_WORK_LIMIT_S = 10.0
GUARD_CHECK_S = 0.2

_LOG = logging.getLogger(__name__)


class LeaseHeldError(GpuError):
    """A live process holds the GPU; the message says which one and since when."""


class ClockLease:
    """Holds one GPU from `acquire` to `release`, or as a context manager.

    A read-only GPU is leased too. It is never set, but what its engine leaves running is ended.

    Args:
        gpu: the GPU.
        owner_pids: the worker, whose engine runs on the GPU; then the driver, whose death ends the worker's work. All
            run on this machine.
        journal_dir: the folder of the journals; by default SWEEP_LEASE_DIR, or a folder in the temporary folder.
        guarded: False only in virtual time, where no other process shares the time source or outlives this one.
    """

    def __init__(
        self, gpu: Gpu, *, owner_pids: Sequence[int], journal_dir: Path | None = None, guarded: bool = True
    ) -> None:
        self._gpu = gpu
        self._owners = tuple(_identify_owner(pid) for pid in owner_pids)
        self._path = journal_path(find_journal_dir(journal_dir), gpu.address)
        self._lease_id = uuid.uuid4().hex
        self._guarded = guarded
        self._guard: ProcessId | None = None
        self._guarding = threading.Lock()
        self._released = threading.Event()
        self._guard_watcher: threading.Thread | None = None
        self._gpu_lock: int | None = None
        self._journal: LeaseJournal | None = None
        """The journal as it was when the lease began; None while the GPU is not held."""
        self._changed: tuple[Setting, ...] = ()

    def __enter__(self) -> "ClockLease":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the GPU. What a dead owner left set on it is put back first.

        Raises: LeaseHeldError: its owner is alive. ReadOnlyError: a dead owner left it locked, and it may not be
            reset. GpuError: the guard does not start.
        """
        self._await_guard_at_work()
        with hold_journal(self._path):
            last = read_journal(self._path)
            if last is not None:
                self._take_over(last)
            journal = self._new_journal()
            self._lock_gpu()
            write_journal(self._path, journal)
            self._journal = journal
        os.environ[LEASE_VARIABLE] = " ".join([*os.environ.get(LEASE_VARIABLE, "").split(), self._lease_id])
        if self._guarded:
            try:
                self._guard = self._start_guard()
            except BaseException:
                self.release()
                raise
            self._guard_watcher = threading.Thread(target=self._watch_guard, name="guard-watcher", daemon=True)
            self._guard_watcher.start()

    def apply(self, point: OperatingPoint) -> None:
        """Write the journal, then set the GPU to an operating point. Parts that are None are as before the lease.

        Raises: ReadOnlyError: the point sets something in read-only mode. The errors of `Gpu.apply`.
        """
        if point.is_default and not self._changed:
            return
        if self._gpu.read_only:
            raise ReadOnlyError("read-only mode: measure at the default clock, or use --clocks apply")
        self._gpu.check(point)
        if point.power_limit_w is not None and self._prior_power_limit_w is None:
            raise NotSupportedError(
                "nvmlDeviceGetPowerManagementLimit does not report the power limit, so it could not be put back"
            )
        self.ensure_guarded()
        before = self._changed
        self._note_changes((*before, *point.settings))
        to_reset = [setting for setting in self._changed if setting not in point.settings]
        try:
            if to_reset:
                self._gpu.reset(self._prior_power_limit_w, to_reset)
            self._gpu.apply(point)
        except (PermissionDeniedError, NotSupportedError):
            self._take_back_changes(before)
            raise

    def ensure_guarded(self) -> None:
        """Replace a guard that has died. A thread calls this five times a second. Raises: GpuError: none starts."""
        with self._guarding:
            if self._guard is not None and not is_alive(self._guard):
                _LOG.warning("the guard of %s has died; another one takes its place", self._gpu.info.uuid)
                if read_sound_journal(self._path) is None:  # removed or damaged: that is why the guard ended
                    self._write_journal(self._changed)
                self._guard = self._start_guard()

    def release(self) -> None:
        """Put back what was set and give the GPU back. Where that fails, the journal and the guard stay."""
        self._released.set()
        if self._guard_watcher is not None:
            self._guard_watcher.join()
        with hold_journal(self._path):
            on_disk = read_sound_journal(self._path)
            # This process knows what must be put back, also where the journal was removed or damaged.
            if self._journal is not None and (on_disk is None or on_disk.lease_id == self._lease_id):
                restore_gpu(replace(self._journal, changed=self._changed), self._gpu)
                self._path.unlink(missing_ok=True)
        self._journal, self._changed = None, ()
        if self._gpu_lock is not None:
            os.close(self._gpu_lock)
            self._gpu_lock = None
        leases = [lease_id for lease_id in os.environ.get(LEASE_VARIABLE, "").split() if lease_id != self._lease_id]
        if leases:
            os.environ[LEASE_VARIABLE] = " ".join(leases)
        else:
            os.environ.pop(LEASE_VARIABLE, None)

    def _watch_guard(self) -> None:
        """Replace a guard that dies, also while a window is open."""
        while not self._released.wait(GUARD_CHECK_S):
            try:
                self.ensure_guarded()
            except GpuError as error:  # this is tried again, and `apply` sets nothing meanwhile
                _LOG.warning("%s", error)

    def _await_guard_at_work(self) -> None:
        """Wait while the guard of a worker whose driver died ends that worker."""
        deadline_s = time.monotonic() + GUARD_AT_WORK_LIMIT_S
        while time.monotonic() < deadline_s:
            last = read_journal(self._path)
            if last is None or last.all_owners_live or not last.worker_lives:
                return
            time.sleep(0.1)

    def _take_over(self, last: LeaseJournal) -> None:
        if last.worker_lives:
            raise self._held_by(last.describe())
        if last.changed and self._gpu.read_only:
            raise ReadOnlyError(
                f"{last.gpu_uuid} is still locked by a run that died ({last.describe()}), and read-only mode may not "
                "reset it; run sweep doctor --reset-clocks where clocks may be set"
            )
        end_orphans(last)
        restore_gpu(last, self._gpu)

    def _lock_gpu(self) -> None:
        """Keep out runs whose journals are elsewhere: those of another user, or with another folder."""
        with suppress(OSError):  # a machine without such a folder has no such lock
            self._gpu_lock = lock_gpu(self._path.stem)
            if self._gpu_lock is None:
                raise self._held_by(find_locker(self._path.stem) or "a process that cannot be seen from here")

    def _held_by(self, holder: str) -> LeaseHeldError:
        info = self._gpu.info
        return LeaseHeldError(
            f"{info.name} {info.uuid} is held by {holder}; wait until it is done, or choose another GPU with --gpu"
        )

    @property
    def _prior_power_limit_w(self) -> float | None:
        return self._journal.prior_power_limit_w if self._journal else None

    def _new_journal(self) -> LeaseJournal:
        address = self._gpu.address
        return LeaseJournal(
            lease_id=self._lease_id,
            gpu_uuid=address.uuid,
            host=socket.gethostname(),
            boot_id=read_boot_id(),
            since_ns=time.time_ns(),
            owners=self._owners,
            nvml_request=address.request,
            state_dir=None if address.state_dir is None else str(address.state_dir),
            read_only=self._gpu.read_only,
            prior_power_limit_w=self._gpu.read_power_limit_w(),
        )

    def _note_changes(self, settings: Sequence[Setting]) -> None:
        """Write into the journal what will be set. Raises: GpuError: as `_write_journal`."""
        changed = tuple(dict.fromkeys(settings))
        if changed != self._changed:
            self._write_journal(changed)
            self._changed = changed

    def _write_journal(self, changed: tuple[Setting, ...]) -> None:
        """Raises: GpuError: no lease is held, or the journal cannot be written."""
        with hold_journal(self._path):
            journal = read_sound_journal(self._path) or self._journal
            if self._journal is None or journal is None or journal.lease_id != self._lease_id:
                raise GpuError(f"the lease on {self._gpu.info.uuid} is no longer held; acquire it before apply")
            write_journal(self._path, replace(journal, changed=changed))

    def _take_back_changes(self, before: tuple[Setting, ...]) -> None:
        """Reset the parts of a refused operating point that were set all the same, so that other trials may go on."""
        new = [setting for setting in self._changed if setting not in before]
        if not new:
            return
        with suppress(PermissionDeniedError, NotSupportedError):
            self._gpu.reset(self._prior_power_limit_w, new)
        self._note_changes(before)

    def _start_guard(self) -> ProcessId:
        """Start a guard and wait until it watches."""
        words = (str(self._path), self._lease_id)
        environment = {name: value for name, value in os.environ.items() if name != LEASE_VARIABLE}
        root = str(Path(__file__).parents[3])  # the folder that holds the package `runner`
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        log_path = self._path.with_suffix(".guard.log")
        try:
            with log_path.open("ab") as log:
                starter = subprocess.Popen(
                    # The shell detaches it at once: Ray ends a worker's children with the worker.
                    ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-m", GUARD_MODULE, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    env=environment,
                    cwd="/",
                )
        except OSError as error:  # no memory, no file descriptor, no folder
            raise GpuError(f"the guard process of {self._gpu.info.uuid} cannot be started: {error}") from error
        with starter:
            assert starter.stdout is not None
            ready, _, _ = select.select([starter.stdout], [], [], GUARD_START_LIMIT_S)
            answer = starter.stdout.readline() if ready else b""
        guard = identify_process(int(answer)) if answer else None
        if guard is None:
            raise GpuError(f"the guard process of {self._gpu.info.uuid} did not start; see {log_path}")
        return guard


def _identify_owner(pid: int) -> ProcessId:
    owner = identify_process(pid)
    if owner is None:
        raise ValueError(f"owner process {pid} does not run on this machine")
    return owner
