"""One writer at a time in a directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.results.directory_lock import LOCK_FILE, DirectoryInUseError, is_locked, lock_directory


def test_a_lock_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "run")
    descriptor = lock_directory(tmp_path / "run")
    assert is_locked(tmp_path / "run")
    assert (tmp_path / "run" / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    with pytest.raises(DirectoryInUseError, match=f"^{os.getpid()}$"):
        lock_directory(tmp_path / "run")
    os.close(descriptor)
    assert not is_locked(tmp_path / "run")
    os.close(lock_directory(tmp_path / "run"))


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from runner.results.directory_lock import *; lock_directory(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert (tmp_path / LOCK_FILE).exists()
    assert not is_locked(tmp_path)


def test_an_owner_that_wrote_no_id_is_unknown(tmp_path: Path) -> None:
    descriptor = lock_directory(tmp_path)
    os.ftruncate(descriptor, 0)
    with pytest.raises(DirectoryInUseError, match=r"^unknown$"):
        lock_directory(tmp_path)
    os.close(descriptor)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        lock_directory(tmp_path / "file" / "run")
