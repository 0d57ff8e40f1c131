"""Importing results of others: they become a run directory, which every other command reads like any other."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl

from runner.analysis.run.clock_bound import mark_impossible_clocks
from runner.analysis.run.operating_points import POINT
from runner.results.exchange.vllm_results import (
    NO_ENERGY,
    is_vllm_results,
    list_files,
    names_default_clock,
    read_vllm_results,
)
from runner.results.published import read_published
from runner.results.run_directory import RunDirectoryError, RunStore
from runner.results.tables import POWER, REQUESTS


def import_published(path: Path, store: RunStore, command: str) -> pl.DataFrame:
    """Write results of others into a run directory. They replace an earlier import there.

    Args:
        path: a CSV file in the form of `read_published`, or results of vLLM as `read_vllm_results` takes them.
        store: held by the caller.
        command: the command line, for the manifest.
    Returns: [num_trials] rows of `tables.TRIALS`, as written.
    Raises: PublishedFileError, VllmFileError: the file is not in that form. RunDirectoryError: the directory holds a
        measured run.
    """
    is_vllm = is_vllm_results(path)
    trials = mark_impossible_clocks(read_vllm_results(path) if is_vllm else read_published(path))
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
            "sha256": _hash_files(list_files(path)),
            "stands_for_default": [] if is_vllm and names_default_clock(path) else _name_default(trials),
            "energy_reason": NO_ENERGY if is_vllm and not trials["joules_per_output_token"].count() else None,
        },
        "simulated": bool(trials["simulated"].any()),
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


def _hash_files(paths: Sequence[Path]) -> str:
    """Return the hash of what the files hold, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _name_default(trials: pl.DataFrame) -> list[str]:
    """Return the clocks of the rows that stand for the default clock, where the file has no default."""
    stand_in = trials.filter(pl.all_horizontal(pl.col(name).is_null() for name in POINT))
    clocks = stand_in.select("sm_clock_mhz", "mem_clock_mhz").unique(maintain_order=True).rows()
    return [
        ", ".join(f"{name} {mhz:.0f} MHz" for name, mhz in (("SM", sm), ("memory", mem)) if mhz is not None)
        for sm, mem in clocks
        if sm is not None or mem is not None
    ]
