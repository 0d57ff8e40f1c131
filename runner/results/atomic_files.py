"""Files that are written whole or not at all, with an error that names the file. Next: `run_directory.py`."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class WriteError(OSError):
    """A file could not be written. The message names it, says why, and says what to do next."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old file or the new one and never a part of it.

    Raises: WriteError: the disk is full, or the file cannot be written for another reason.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _explained_write(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file. Raises: WriteError, as `write_atomically` does."""
    with _explained_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            if file.write(line + b"\n") <= len(line):  # a disk that is nearly full takes only a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _explained_write(path: Path) -> Iterator[None]:
    """Turn an OSError of writing a file into a WriteError."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        first = "free some space there" if is_full else f"make {path.parent} writable"
        raise WriteError(
            f"{path} could not be written ({error.strerror or error}): {first}, then run the same command again. "
            "Finished trials are kept"
        ) from error
