"""A run directory is read, studied and shown: `sweep report` and the end of `sweep run`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from runner.analysis.advice.limits import Limits
from runner.analysis.run.completion import complete_trials
from runner.analysis.study import Study, study_requests, study_trials
from runner.results.run_directory import RunStore, write_atomically
from runner.tasks.features.entities import count_entities

TABLES = "tables"
"""The folder of a run directory that holds its tables as CSV."""


def read_study(store: RunStore, limits: Limits) -> Study:
    """Read a run and work out all that is said of it."""
    trials = complete_trials(store.read_trials(store.planned_trial_ids()))
    return study_requests(study_trials(trials, limits), store.read_samples(), store.scan_requests)


def add_entities(store: RunStore, pipeline: str) -> None:
    """Count the named entities of a run's prompts, into its samples.parquet, where later reports find them.

    Raises: NoPipelineError: spaCy or the pipeline is missing, and nothing is written. RunDirectoryError: a run is
        writing there.
    """
    with store:
        store.write_samples(count_entities(store.read_samples(), pipeline))


def format_json(study: Study, manifest: Mapping[str, Any]) -> str:
    """Return everything as JSON: the names of `Study.tables`, each a list of rows, and the limits."""
    summary: dict[str, Any] = {"name": manifest.get("name"), "simulated": manifest.get("simulated")}
    summary |= {"imported": manifest.get("imported"), "limits": asdict(study.limits)}
    return json.dumps(summary | {name: table.to_dicts() for name, table in study.tables().items()})


def write_tables(store: RunStore, study: Study) -> list[str]:
    """Write every table that has rows into the run directory as CSV; returns the files' names.

    Lists are joined by blanks. Each table says whether a GPU was simulated.
    """
    written = []
    is_simulated = pl.lit(bool(study.trials["simulated"].any())).alias("simulated")
    for name, kept in study.tables().items():
        table = kept if "simulated" in kept.columns else kept.with_columns(is_simulated)
        lists = [column for column, dtype in table.schema.items() if dtype.base_type() is pl.List]
        flat = table.with_columns(pl.col(column).cast(pl.List(pl.String)).list.join(" ") for column in lists)
        path = store.directory / TABLES / f"{name}.csv"
        if table.height:
            write_atomically(path, flat.write_csv().encode())
            written.append(f"{TABLES}/{path.name}")
        else:
            path.unlink(missing_ok=True)  # of an earlier report
    return written
