"""The guard of a lease, `python -m runner.hardware.guard JOURNAL LEASE_ID`: restores the board if an owner dies.

It lives in a session of its own, as nobody's child, and outlives SIGKILL of whoever started it. It imports nothing
heavy, polls processes rather than pipes (an engine that was forked holds every pipe open) and ends with the lease.
"""

import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from runner.hardware.gpu import GpuError, ReadOnlyError
from runner.hardware.journal import LeaseJournal, hold_journal, read_journal, write_journal
from runner.hardware.processes import ProcessId, find_descendants, is_alive, kill_process, wait_gone
from runner.hardware.recovery import end_orphans, restore_board

POLL_S = 0.1
SCAN_S = 1.0
"""The search for new engine processes walks all of /proc: some milliseconds a time."""
GRACE_S = 1.0
"""How long a worker whose driver died has to end by itself."""
NUM_RESTORE_TRIES = 10


def main() -> None:
    """Leave the starter, report for duty with a pid on stdout, and watch."""
    path, lease_id = Path(sys.argv[1]), sys.argv[2]
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    journal = watch(path, lease_id)
    if journal is not None:
        recover(path, journal)


def watch(path: Path, lease_id: str) -> LeaseJournal | None:
    """Return the lease's journal once one of its owners is dead, None once the lease has been given back.

    Where it is the driver that died, all that descended from it is among the descendants: Ray's helpers on this
    machine would wait a minute for a server that never comes back.
    """
    household: set[ProcessId] = set()
    next_scan_s = 0.0
    while True:
        journal = read_journal(path)
        if journal is None or journal.lease_id != lease_id:
            return None
        if not journal.all_owners_live:
            driver_lives = all(map(is_alive, journal.owners[1:]))
            orphans = {*journal.descendants} if driver_lives else {*journal.descendants, *household}
            return replace(journal, descendants=tuple(sorted(orphans)))
        if time.monotonic() >= next_scan_s:
            _note_descendants(path, journal)
            household = find_descendants(journal.owners[1:])
            next_scan_s = time.monotonic() + SCAN_S
        time.sleep(POLL_S)


def recover(path: Path, journal: LeaseJournal) -> None:
    """End the worker if it still runs and all that it left, restore the board and remove the journal."""
    worker = journal.owners[0]
    if is_alive(worker):
        descendants = {*journal.descendants, *find_descendants([worker])}
        journal = replace(journal, descendants=tuple(sorted(descendants)))
        kill_process(worker, signal.SIGTERM)
        if not wait_gone(worker, GRACE_S):
            kill_process(worker)
            wait_gone(worker, GRACE_S)
    end_orphans(journal)
    for _ in range(NUM_RESTORE_TRIES):
        try:
            with hold_journal(path):
                last = read_journal(path)
                if last is not None and last.lease_id == journal.lease_id:
                    restore_board(last)
                    path.unlink()
            return
        except ReadOnlyError:
            return  # forbidden: the journal stays for whoever may
        except GpuError:
            traceback.print_exc()
            time.sleep(1.0)


def _note_descendants(path: Path, seen: LeaseJournal) -> None:
    """Put the worker's descendants into the journal when they have changed, for the guard's own successors."""
    descendants = tuple(sorted(find_descendants(seen.owners[:1])))
    if descendants == seen.descendants:
        return
    with hold_journal(path):
        journal = read_journal(path)
        # A dead worker has no descendants, only orphans: those known before are kept.
        if journal is not None and journal.lease_id == seen.lease_id and journal.worker_lives:
            write_journal(path, replace(journal, descendants=descendants))


if __name__ == "__main__":
    main()
