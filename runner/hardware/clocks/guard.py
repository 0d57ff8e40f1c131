"""The guard of a lease, `python -m runner.hardware.clocks.guard JOURNAL LEASE_ID`: restores the GPU if an owner dies.

It runs in a session of its own and is no child of its starter, so it survives SIGKILL of that process. It imports
nothing heavy. It polls processes instead of pipes, because a forked engine keeps every pipe open. It ends with the
lease.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from runner.hardware.clocks.journal import LeaseJournal, hold_journal, read_journal, write_journal
from runner.hardware.clocks.processes import ProcessId, find_descendants, is_alive, kill_process, wait_gone
from runner.hardware.clocks.recovery import end_orphans, restore_gpu
from runner.hardware.gpu import GpuError

POLL_S = 0.1
SCAN_S = 1.0
"""Period of the search for new engine processes. A search walks all of /proc and takes some milliseconds."""
GRACE_S = 0.5
"""Time for a worker whose driver died to end by itself, and again after SIGKILL: the GPU must be free within 2 s."""
NUM_RESTORE_TRIES = 10


def main() -> None:
    """Write the pid to standard output, then watch."""
    path, lease_id = Path(sys.argv[1]), sys.argv[2]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _escape_out_of_memory_killer()
    with suppress(BrokenPipeError):  # the starter has died, so there is something to restore
        os.write(1, f"{os.getpid()}\n".encode())
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    journal = watch(path, lease_id)
    if journal is not None:
        recover(path, journal)


def watch(path: Path, lease_id: str) -> LeaseJournal | None:
    """Return the lease's journal once one of its owners is dead; None once the lease has been given back.

    Where the driver died, the journal's descendants include the driver's. Ray's helpers on this machine would otherwise
    wait a minute for a server that never comes back.
    """
    descendants: set[ProcessId] = set()
    driver_descendants: set[ProcessId] = set()
    next_scan_s = 0.0
    while True:
        journal = read_journal(path)
        if journal is None or journal.lease_id != lease_id:
            return None
        if not journal.all_owners_live:
            driver_lives = all(map(is_alive, journal.owners[1:]))
            orphans = {*journal.descendants, *descendants} | (set() if driver_lives else driver_descendants)
            return replace(journal, descendants=tuple(sorted(orphans)))
        if time.monotonic() >= next_scan_s:
            descendants = find_descendants(journal.owners[:1]) or descendants
            with suppress(GpuError):  # e.g. a full disk; this process knows them anyway
                _note_descendants(path, journal, descendants)
            driver_descendants = find_descendants(journal.owners[1:])
            next_scan_s = time.monotonic() + SCAN_S
        time.sleep(POLL_S)


def recover(path: Path, journal: LeaseJournal) -> None:
    """End the worker if it still runs, restore the GPU, end what the worker left running and remove the journal."""
    worker = journal.owners[0]
    if is_alive(worker):
        descendants = {*journal.descendants, *find_descendants([worker])}
        journal = replace(journal, descendants=tuple(sorted(descendants)))
        kill_process(worker, signal.SIGTERM)
        if not wait_gone(worker, GRACE_S):
            kill_process(worker)
            wait_gone(worker, GRACE_S)
    # The GPU comes first: an engine that hangs in its driver may take long to end.
    is_restored = _try_restore(path, journal)
    end_orphans(journal)
    for _ in range(NUM_RESTORE_TRIES):
        if is_restored:
            break
        time.sleep(1.0)
        is_restored = _try_restore(path, journal)
    with hold_journal(path), suppress(OSError):
        if is_restored and _is_ours(path, journal):  # else the journal stays for the next one who may reset the GPU
            path.unlink()


def _try_restore(path: Path, journal: LeaseJournal) -> bool:
    try:
        with hold_journal(path):
            if _is_ours(path, journal):
                restore_gpu(_read_last(path, journal))
    except GpuError:
        traceback.print_exc()
        return False
    return True


def _read_last(path: Path, journal: LeaseJournal) -> LeaseJournal:
    """Return the journal as its owner left it. The one that was seen while the owner lived may lack its last change."""
    try:
        return read_journal(path) or journal
    except GpuError:  # damaged
        return journal


def _is_ours(path: Path, journal: LeaseJournal) -> bool:
    """Return whether the journal still belongs to this lease. A damaged journal counts as ours."""
    try:
        last = read_journal(path)
    except GpuError:
        return True
    return last is not None and last.lease_id == journal.lease_id


def _escape_out_of_memory_killer() -> None:
    """Keep the kernel from ending the guard when memory runs out: Ray offers its workers' children first."""
    for score in ("-1000", "0"):  # never; or as any other process, where the user is not root
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(score)
            return


def _note_descendants(path: Path, seen: LeaseJournal, found: Collection[ProcessId]) -> None:
    """Write the worker's descendants into the journal when they have changed, for a guard that replaces this one."""
    descendants = tuple(sorted(found))
    if descendants == seen.descendants:
        return
    with hold_journal(path):
        journal = read_journal(path)
        # A dead worker has no descendants any more: those known before are kept.
        if journal is not None and journal.lease_id == seen.lease_id and journal.worker_lives:
            write_journal(path, replace(journal, descendants=descendants))


if __name__ == "__main__":
    main()
