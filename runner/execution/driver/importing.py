"""Importing a published table: it becomes a run directory, which every other command reads like any other."""

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl

from runner.analysis.run.clock_bound import mark_impossible_clocks
from runner.analysis.run.operating_points import POINT
from runner.results.published import read_published
from runner.results.run_directory import RunDirectoryError, RunStore
from runner.results.tables import POWER, REQUESTS


def import_published(path: Path, store: RunStore, command: str) -> pl.DataFrame:
    """Write a published table into a run directory. It replaces an earlier import there.

    Args:
        path: a CSV file in the form of `read_published`.
        store: held by the caller.
        command: the command line, for the manifest.
    Returns: [num_trials] rows of `tables.TRIALS`, as written.
    Raises: PublishedFileError: the file is not in that form. RunDirectoryError: the directory holds a measured run.
    """
    trials = mark_impossible_clocks(read_published(path))
    earlier = store.read_manifest()
    if earlier is not None and "imported" not in earlier:
        raise RunDirectoryError(f"{store.directory} holds a run that was measured: give another --out")
    store.clear()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {
        "name": path.stem,
        "sweep": {"name": path.stem},
        "options": {"engine": "imported", "read_only": True, "command": command},
        "imported": {
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "stands_for_default": _name_default(trials),
        },
        "simulated": False,
        "num_trials": trials.height,
        "versions": {"joulesweep": version("joulesweep")},
        "gpus": [],
        "runs": [{"start": now, "command": command, "end": now, "outcome": "done"}],
    }
    store.write_manifest(manifest)
    for row in trials.to_dicts():
        store.write_trial(row, pl.DataFrame(schema=REQUESTS), pl.DataFrame(schema=POWER))
    store.gather_trials()
    return trials


def _name_default(trials: pl.DataFrame) -> list[str]:
    """Return the clocks of the rows that stand for the default clock, where the file has no default."""
    stand_in = trials.filter(pl.all_horizontal(pl.col(name).is_null() for name in POINT))
    clocks = stand_in.select("sm_clock_mhz", "mem_clock_mhz").unique(maintain_order=True).rows()
    return [
        ", ".join(f"{name} {mhz:.0f} MHz" for name, mhz in (("SM", sm), ("memory", mem)) if mhz is not None)
        for sm, mem in clocks
        if sm is not None or mem is not None
    ]
