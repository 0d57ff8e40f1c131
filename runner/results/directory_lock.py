"""One writer at a time in a directory: an exclusive lock on a file in it. The lock ends with the writer's process.

Only the holder of the lock may remove the file. A process that opened the file just before that locks a file that is no
longer in the directory. So a lock counts only if its file is still the one in the directory.
"""

import errno
import fcntl
import os
from contextlib import ExitStack, suppress
from pathlib import Path

LOCK_FILE = ".lock"
_MAX_REMOVALS = 10
"""How often another writer may remove the directory while this one locks it. Each removal takes a whole run."""


class DirectoryInUseError(Exception):
    """Another process holds the lock. The message is the process's id, or "unknown"."""


def lock_directory(directory: Path) -> int:
    """Lock a directory, and make it if there is none.

    Returns: a file descriptor. Closing it unlocks the directory.
    Raises: DirectoryInUseError. OSError: the directory or its lock file cannot be made.
    """
    path = directory / LOCK_FILE
    for _ in range(_MAX_REMOVALS):
        with suppress(FileNotFoundError), ExitStack() as opened:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 32).decode(errors="replace").strip()
                raise DirectoryInUseError(owner or "unknown") from None
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                opened.pop_all()
                return descriptor
    raise FileNotFoundError(errno.ENOENT, "other runs keep removing it", str(directory))


def is_locked(directory: Path) -> bool:
    """Return whether a process holds the directory's lock now."""
    try:
        with (directory / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
