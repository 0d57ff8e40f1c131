"""Processes, read from /proc: whether one is alive, its descendants, those with a mark; and how to end one.

The kernel uses pids again, so a process is identified by its pid and its start time.
"""

import os
import signal
import time
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class ProcessId(NamedTuple):
    """One process of this boot."""

    pid: int
    start_ticks: int
    """The kernel's ticks from boot to its start."""


def identify_process(pid: int) -> ProcessId | None:
    """Return the process that has a pid now; None where there is none, or only a zombie."""
    status = _read_status(pid)
    return None if status is None else ProcessId(pid, status[1])


def is_alive(process: ProcessId) -> bool:
    """Return whether this process still runs, and not another one with its pid."""
    return identify_process(process.pid) == process


def find_descendants(roots: Iterable[ProcessId]) -> set[ProcessId]:
    """Return the children, grandchildren and so on of those roots that live. Orphans are not among them."""
    children: dict[int, list[ProcessId]] = {}
    for pid in _list_pids():
        status = _read_status(pid)
        if status is not None:
            children.setdefault(status[0], []).append(ProcessId(pid, status[1]))
    found: set[ProcessId] = set()
    to_visit = [root for root in roots if is_alive(root)]
    while to_visit:
        new = [child for child in children.get(to_visit.pop().pid, ()) if child not in found]
        found.update(new)
        to_visit += new
    return found


def find_marked(variable: str, word: str) -> set[ProcessId]:
    """Return the processes that started with `word` among the words of an environment variable."""
    prefix, found = f"{variable}=".encode(), set()
    for pid in _list_pids():
        try:
            entries = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        if any(entry.startswith(prefix) and word.encode() in entry[len(prefix) :].split() for entry in entries):
            process = identify_process(pid)
            if process is not None:
                found.add(process)
    return found


def runs_module(process: ProcessId, module: str) -> bool:
    """Return whether a process started as `python -m module`."""
    try:
        words = (_PROC / str(process.pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(a == b"-m" and b == module.encode() for a, b in pairwise(words))


def kill_process(process: ProcessId, signal_number: int = signal.SIGKILL) -> None:
    """Send a signal to this process. Nothing happens if it has ended."""
    if is_alive(process):
        try:
            os.kill(process.pid, signal_number)
        except ProcessLookupError:
            return


def wait_gone(process: ProcessId, seconds: float) -> bool:
    """Wait until a process has ended. Return False if it still runs after `seconds`."""
    deadline_s = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


@cache
def read_boot_id() -> str:
    """Return the kernel's id of this boot of this machine; empty where it has none."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _list_pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _read_status(pid: int) -> tuple[int, int] | None:
    """Return (parent's pid, start ticks) of a process; None where it has ended or is a zombie."""
    try:
        # The command's name may contain spaces and brackets. The fields follow its last bracket.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split(maxsplit=20)
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else (int(fields[1]), int(fields[19]))
