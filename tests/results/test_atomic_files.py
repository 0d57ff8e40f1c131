"""Files that are written whole or not at all, and a disk that is full."""

import errno
import io
import os
import pickle
from pathlib import Path

import pytest

from runner.results.atomic_files import WriteError, append_line, write_atomically

FULL = "free some space there, then run the same command again. Finished trials are kept"


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"whole")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, b"old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.read_bytes()))
    write_atomically(path, b"new")
    assert (seen, path.read_bytes()) == ([b"old"], b"new")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_and_what_to_do_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "trials.parquet"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: fail(number))
    with pytest.raises(WriteError) as error:
        write_atomically(path, b"new")
    assert str(error.value) == f"{path} could not be written ({os.strerror(number)}): {FULL}"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]  # the partial file would take the space that is missing


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trials").write_text("a file where a folder is needed")
    with pytest.raises(WriteError, match=r"trials/a\.parquet could not be written .*make .*/trials writable, then run"):
        write_atomically(tmp_path / "trials" / "a.parquet", b"")
    monkeypatch.setattr(Path, "replace", lambda *_: fail(errno.EROFS))
    with pytest.raises(WriteError, match=r"\(Read-only file system\): make .* writable"):
        write_atomically(tmp_path / "b.parquet", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_event_that_a_full_disk_refuses_names_its_file() -> None:
    with pytest.raises(WriteError, match=r"^/dev/full could not be written \(No space left on device\): free some"):
        append_line(Path("/dev/full"), b"{}")


def test_a_line_of_which_only_a_part_was_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NearlyFull(io.BytesIO):
        def write(self, data: bytes) -> int:
            return super().write(data[:3])

    monkeypatch.setattr(Path, "open", lambda *_, **__: NearlyFull())
    with pytest.raises(WriteError, match="No space left on device"):
        append_line(tmp_path / "events.jsonl", b'{"kind": "x"}')


def test_lines_are_appended(tmp_path: Path) -> None:
    for line in (b"one", b"two"):
        append_line(tmp_path / "run" / "events.jsonl", line)
    assert (tmp_path / "run" / "events.jsonl").read_bytes() == b"one\ntwo\n"


def test_the_error_reaches_another_process_whole() -> None:
    """The aggregator's process raises it, and the driver's tells it."""
    error = pickle.loads(pickle.dumps(WriteError("where, why, what to do")))
    assert (type(error), str(error)) == (WriteError, "where, why, what to do")
    assert isinstance(error, OSError)
