"""The lock that every user of a machine sees: one empty file a GPU, in a folder that belongs to all.

Journals are each user's own, and nobody else can read them. This lock tells a second user, or the same one with another
SWEEP_LEASE_DIR, that the GPU is taken. The kernel drops it when its holder ends, whatever was forked from it.
"""

import fcntl
import os
import pwd
from contextlib import suppress
from pathlib import Path

SHARED_DIR = Path("/tmp/joulesweep-boards")
"""The same for everybody, whatever TMPDIR says."""


def lock_gpu(name: str) -> int | None:
    """Return an open file that holds a GPU until it is closed; None: another process holds it.

    Raises: OSError: this machine has no folder for it that all may use.
    """
    with suppress(FileExistsError):
        SHARED_DIR.mkdir()
        SHARED_DIR.chmod(0o1777)  # all may create files in it, and nobody may remove another's
    path, flags = _path(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileExistsError):
        os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL))
        path.chmod(0o666)
    descriptor = os.open(path, flags)
    try:
        # Not flock, which an engine that was forked from a dead holder would go on holding.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    return descriptor


def find_locker(name: str) -> str | None:
    """Return who holds a GPU, for a person; None: nobody does, as far as can be seen from here."""
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
