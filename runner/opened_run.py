"""A run that exists, opened to be read: its rows, its raw data, and what they say.

A run directory enters. Frames and a `Study` leave. The Python interface (`api.py`) hands it out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from runner.analysis.advice.limits import parse_limits
from runner.analysis.advice.tariff import parse_tariff
from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.study import Study
from runner.display.report.reading import read_study
from runner.results.exchange.export import Export, export_run
from runner.results.exchange.formats import ExportFormat
from runner.results.run_directory import RunStore
from runner.results.run_directory import open_run as open_store


class Run:
    """A run that exists, read-only: its rows, its raw data and what they say.

    Args:
        store: the run directory.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    @property
    def directory(self) -> Path:
        """Where the run lies."""
        return self._store.directory

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: the sweep, the versions, the GPUs and their sensors."""
        return self._store.read_manifest() or {}

    @property
    def trials(self) -> pl.DataFrame:
        """[num_trials] rows of `tables.TRIALS`: one a trial and attempt, failed ones included."""
        return complete_trials(self._store.read_trials(self._store.planned_trial_ids()))

    @property
    def samples(self) -> pl.DataFrame:
        """[num_samples] rows of `tables.SAMPLES`: the prompts with the features of their text."""
        return self._store.read_samples()

    def requests(self, trial_ids: Sequence[str]) -> pl.LazyFrame:
        """Return the requests of some trials, not yet read: rows of `tables.REQUESTS`."""
        return self._store.scan_requests(trial_ids)

    def power(self, trial_id: str) -> pl.DataFrame:
        """Return the power trace around a trial's window: [num_samples] rows of `tables.POWER`."""
        return self._store.read_power(trial_id)

    def study(
        self,
        *,
        max_slowdown: str | None = None,
        min_quality_change: str | None = None,
        max_ttft: str | None = None,
        max_tpot: str | None = None,
        price: str | None = None,
        carbon: str | None = None,
        pue: float | str | None = None,
    ) -> Study:
        """Return everything that is said of the run: operating points, recommendations, the Pareto front and more.

        Args:
            max_slowdown, min_quality_change, max_ttft, max_tpot: what a recommended operating point must keep, written
                as for `sweep report`: "5%", "-0.5%", "0.5s", "50ms".
            price, carbon, pue: what a kilowatt-hour costs: "0.25 EUR/kWh", "380 g/kWh", 1.2. `Study.costs` needs one of
                them.
        Raises: ValueError: one of them cannot be read.
        """
        limits = parse_limits(
            max_slowdown=max_slowdown, min_quality_change=min_quality_change, max_ttft=max_ttft, max_tpot=max_tpot
        )
        return read_study(self._store, limits, parse_tariff(price=price, carbon=carbon, pue=pue))

    def export(self, format_name: ExportFormat, out: str | os.PathLike[str] | None = None) -> Export:
        """Write the trials in the format of another tool, as `sweep export` does, and return what was written.

        Args:
            out: the folder, new or empty; RUN/exports/FORMAT unless given.
        Raises: ExportError: the format is unknown, it can hold no trial of this run, or the folder holds other files.
        """
        return export_run(self._store, format_name, None if out is None else Path(out))


def open_run(directory: str | os.PathLike[str]) -> Run:
    """Open a run directory to read it. Raises: RunDirectoryError: there is no run."""
    return Run(open_store(Path(directory)))
