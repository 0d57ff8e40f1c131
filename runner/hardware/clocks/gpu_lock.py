"""The lock file of a GPU, which every user of a machine can see: one empty file in a folder that all may write.

A journal belongs to one user, and other users cannot read it. The lock tells another user, or the same one with another
SWEEP_LEASE_DIR, that the GPU is taken. The kernel drops the lock when its holder ends, even if a fork of it lives on.
"""

import fcntl
import os
import pwd
from contextlib import suppress
from pathlib import Path

SHARED_DIR = Path("/tmp/joulesweep-boards")
"""The same folder for every user, whatever TMPDIR says."""


def lock_gpu(name: str) -> int | None:
    """Return the descriptor of an open file that holds a GPU until it is closed; None where another process holds it.

    Raises: OSError: this machine has no folder that all users may write.
    """
    with suppress(FileExistsError):
        SHARED_DIR.mkdir()
        SHARED_DIR.chmod(0o1777)  # all users may create files in it, and remove only their own
    path, flags = _path(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileExistsError):
        os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL))
        path.chmod(0o666)
    descriptor = os.open(path, flags)
    try:
        # flock would not do: an engine that was forked from a dead holder would keep it.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    return descriptor


def find_locker(name: str) -> str | None:
    """Return which process holds a GPU, in words; None where none is seen to hold it."""
    try:
        file = _path(name).stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in locks.splitlines():
        fields = line.split()  # proc_locks(5): number, kind, mode, access, pid, place, ...
        if "->" not in fields and fields[1] == "POSIX" and fields[5] == place:
            with suppress(OSError, KeyError):
                user = pwd.getpwuid(os.stat(f"/proc/{fields[4]}").st_uid).pw_name
                return f"process {fields[4]} of user {user}"
            return f"process {fields[4]}"
    return None


def _path(name: str) -> Path:
    return SHARED_DIR / f"{name}.lock"
