"""The run directory. Every file appears whole or not at all, and a finished trial is never written again.

manifest.json            what was asked for, with which versions, on which GPUs
trials/ID.parquet        one row, written last: a trial is finished when this file is there
requests/ID.parquet      one row for each request
power/ID.parquet         the power trace around the window
samples.parquet          one row for each sample
events.jsonl             what happened
capacities.jsonl         one line for each capacity that was sought
live.json                what is happening, during a run
trials.parquet           all rows of trials/, gathered when a run or a report ends
"""

import io
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from runner.results.atomic_files import append_line, write_atomically
from runner.results.directory_lock import LOCK_FILE, DirectoryInUseError, is_locked, lock_directory
from runner.results.live import Event
from runner.results.tables import POWER, REQUESTS, SAMPLES, TRIALS
from runner.spec.sweep import parse_sweep
from runner.spec.trial import MAX_ATTEMPTS, expand_trials, make_row_id

_FOLDERS = ("trials", "requests", "power")
_FILES = (
    "manifest.json", "trials.parquet", "samples.parquet", "events.jsonl", "capacities.jsonl", "live.json",
    "report.html",
)  # fmt: skip


class RunDirectoryError(Exception):
    """The run directory cannot be used. The message says what to do next."""


class RunStore:
    """One run directory. One writer at a time holds it (`with store:`). Readers need no lock.

    Methods that write raise `atomic_files.WriteError` where a file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock_fd: int | None = None
        self._made: list[Path] = []
        """The folders that were made when it was taken for writing, the innermost first."""

    def __enter__(self) -> Self:
        """Take the directory for writing.

        Raises: RunDirectoryError: another run holds it, or it cannot be made.
        """
        try:
            self._made = [path for path in (self.directory, *self.directory.parents) if not path.exists()]
            self._lock_fd = lock_directory(self.directory)
        except DirectoryInUseError as error:
            raise RunDirectoryError(
                f"{self.directory} is in use by another run (process {error}): "
                "wait for it, end it, or give another --out"
            ) from None
        except OSError as error:
            self._remove_made()
            raise RunDirectoryError(
                f"{self.directory} cannot be a run directory ({error.strerror}): give another --out"
            ) from None
        for folder in (".", *_FOLDERS):
            for partial in (self.directory / folder).glob(".*.partial"):
                partial.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Release the directory. It is removed if it was made for this run and nothing was measured in it."""
        if self._lock_fd is None:
            return
        if self._made and not self._holds_a_run():
            self.clear()
            (self.directory / LOCK_FILE).unlink(missing_ok=True)  # only the holder may remove it: see directory_lock
            self._remove_made()
        os.close(self._lock_fd)
        self._lock_fd = None

    def _holds_a_run(self) -> bool:
        return (self.directory / "manifest.json").exists() or any((self.directory / "trials").glob("*.parquet"))

    def _remove_made(self) -> None:
        with suppress(OSError):  # a file that is not of this run is in it by now
            for folder in self._made:
                folder.rmdir()

    def is_in_use(self) -> bool:
        """Return whether a run holds the directory now."""
        return is_locked(self.directory)

    def clear(self) -> None:
        """Remove the files of an earlier run (`--fresh`), and no others."""
        for name in _FILES:
            (self.directory / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            for path in (self.directory / name).glob("*.parquet"):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # another file is in it, or it is not there
                (self.directory / name).rmdir()

    def read_manifest(self) -> dict[str, Any] | None:
        """Return manifest.json; None if there is none. Raises: RunDirectoryError: it cannot be read."""
        path = self.directory / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}): start anew with --fresh") from None
        if not isinstance(manifest, dict) or not {"sweep", "options"} <= manifest.keys():
            raise RunDirectoryError(
                f"{path} is not the manifest of a run: start anew with --fresh, or give another --out"
            )
        return manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json."""
        write_atomically(self.directory / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")

    def write_samples(self, samples: pl.DataFrame) -> None:
        """Write samples.parquet: [num_samples] rows of `tables.SAMPLES`."""
        self._write_frame(
            self.directory / "samples.parquet", samples.select(pl.col(n).cast(t) for n, t in SAMPLES.items())
        )

    def read_samples(self) -> pl.DataFrame:
        """Return samples.parquet, or an empty table without one: [num_samples] rows of `tables.SAMPLES`."""
        path = self.directory / "samples.parquet"
        return _scan([path], SAMPLES).collect() if path.exists() else pl.DataFrame(schema=SAMPLES)

    def read_capacity(self, key: str) -> float | None:
        """Return the capacity that was found for a key, in requests/s; None where it was not sought yet."""
        path = self.directory / "capacities.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = (json.loads(line) for line in lines)
        return next((entry["capacity_per_s"] for entry in found if entry["key"] == key), None)

    def append_capacity(self, key: str, about: Mapping[str, Any], capacity_per_s: float) -> None:
        """Append a capacity to capacities.jsonl.

        Args:
            key: tells apart what it was found for.
            about: the same in words.
        """
        entry = {"key": key, **about, "capacity_per_s": capacity_per_s}
        append_line(self.directory / "capacities.jsonl", json.dumps(entry).encode())

    def write_trial(self, row: Mapping[str, Any], requests: pl.DataFrame, power: pl.DataFrame) -> None:
        """Write one finished trial, its row last.

        Args:
            row: values by column of `tables.TRIALS`. A missing one becomes null.
            requests: [num_requests] rows of `tables.REQUESTS`.
            power: [num_samples] rows of `tables.POWER`.
        """
        if unknown := set(row) - set(TRIALS):
            raise AssertionError(f"columns that no schema has: {sorted(unknown)}")
        name = f"{row['trial_id']}.parquet"
        self._write_frame(self.directory / "power" / name, power.select(list(POWER)))
        self._write_frame(self.directory / "requests" / name, requests.select(list(REQUESTS)))
        frame = pl.DataFrame([{column: row.get(column) for column in TRIALS}], schema=TRIALS)
        self._write_frame(self.directory / "trials" / name, frame)

    def read_trials(self, trial_ids: Collection[str] | None = None) -> pl.DataFrame:
        """Return the rows of the finished trials, in order of start: [num_trials] rows of `tables.TRIALS`.

        Args:
            trial_ids: only these, and their second attempts; None for all trials of the directory.
        """
        paths = sorted((self.directory / "trials").glob("[!.]*.parquet"))
        if trial_ids is not None:
            attempts = range(1, MAX_ATTEMPTS + 1)
            wanted = {make_row_id(trial_id, attempt) for trial_id in trial_ids for attempt in attempts}
            paths = [path for path in paths if path.stem in wanted]
        if not paths:
            return pl.DataFrame(schema=TRIALS)
        frames = [pl.read_parquet(path) for path in paths]
        known = pl.DataFrame(schema=TRIALS)  # rows of an earlier release lack the columns added since
        trials = pl.concat([known, *frames], how="diagonal_relaxed").sort("start_ns", "trial_id")
        return trials.with_columns(pl.col("attempt").fill_null(1))

    def is_finished(self, trial_id: str) -> bool:
        """Return whether a trial has ended well, so that its row is never written again."""
        path = self.directory / "trials" / f"{trial_id}.parquet"
        return path.exists() and pl.read_parquet(path, columns=["status"]).item() == "ok"

    def finished_trial_ids(self) -> frozenset[str]:
        """Return the ids of the trials that ended well, so that they are not run again."""
        return frozenset(self.read_trials().filter(pl.col("status") == "ok")["trial_id"])

    def planned_trial_ids(self) -> list[str] | None:
        """Return the ids that the manifest's sweep expands to; None for an imported table, which was never planned.

        The directory may hold other trials, of an earlier version of the sweep file.
        """
        manifest = self.read_manifest() or {}
        if "imported" in manifest:
            return None
        sweep = parse_sweep(manifest["sweep"])
        blocks = expand_trials(sweep, read_only=manifest["options"]["read_only"])
        return [trial.trial_id for block in blocks for trial in block.trials]

    def gather_trials(
        self,
        trial_ids: Collection[str] | None = None,
        complete: Callable[[pl.DataFrame], pl.DataFrame] = lambda trials: trials,
    ) -> pl.DataFrame:
        """Write trials.parquet from the rows of trials/, and return it.

        Args:
            trial_ids: as in `read_trials`.
            complete: adds to the rows what takes several of them to see, as `completed_trials.complete_trials` does.
        """
        trials = complete(self.read_trials(trial_ids))
        self._write_frame(self.directory / "trials.parquet", trials)
        return trials

    def read_requests(self, trial_id: str) -> pl.DataFrame:
        """Return one trial's requests: [num_requests] rows of `tables.REQUESTS`."""
        return self.scan_requests([trial_id]).collect()

    def scan_requests(self, trial_ids: Collection[str]) -> pl.LazyFrame:
        """Return several trials' requests, not yet read: rows of `tables.REQUESTS`.

        A run has many requests, and their texts take the most memory. Select what you need before `collect`.
        """
        paths = [self.directory / "requests" / f"{trial_id}.parquet" for trial_id in trial_ids]
        if not paths:
            return pl.LazyFrame(schema=REQUESTS)
        # Release 0.1 wrote the round into the id only.
        in_id = pl.col("request_id").str.extract(r"#(\d+)$").cast(pl.Int64)
        return _scan(paths, REQUESTS).with_columns(pl.coalesce("round", in_id))

    def read_power(self, trial_id: str) -> pl.DataFrame:
        """Return one trial's power trace: [num_samples] rows of `tables.POWER`."""
        return pl.read_parquet(self.directory / "power" / f"{trial_id}.parquet")

    def append_event(self, event: Event) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps({key: value for key, value in asdict(event).items() if value is not None})
        append_line(self.directory / "events.jsonl", line.encode())

    @staticmethod
    def _write_frame(path: Path, frame: pl.DataFrame) -> None:
        data = io.BytesIO()
        frame.write_parquet(data, compression="zstd")
        write_atomically(path, data.getvalue())


def _scan(paths: list[Path], schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Scan files of one schema. A column that an earlier release did not know is null."""
    return pl.scan_parquet(paths, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)


def open_run(directory: Path) -> RunStore:
    """Return the store of a run that exists, to read it.

    Raises: RunDirectoryError: there is no run. The message names other runs nearby.
    """
    store = RunStore(directory)
    if store.read_manifest() is None:
        found = {path.parent for folder in (directory.parent, Path("runs")) for path in folder.glob("*/manifest.json")}
        others = sorted(map(str, found))
        there = f"; runs: {', '.join(others)}" if others else ""
        raise RunDirectoryError(f"{directory} holds no run (no manifest.json){there}")
    return store
