"""Reads a run directory for its report.

A `RunStore` enters; a `Study` leaves. Next: `build.py`.
"""

from runner.analysis.advice.limits import Limits
from runner.analysis.advice.tariff import NO_TARIFF, Tariff
from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.study import Study, study_requests, study_trials
from runner.results.run_directory import RunStore
from runner.tasks.features.entities import count_entities


def read_study(store: RunStore, limits: Limits, tariff: Tariff = NO_TARIFF) -> Study:
    """Read a run and analyse it.

    Args:
        limits: what a recommended operating point must keep.
        tariff: what a kilowatt-hour costs.
    """
    trials = complete_trials(store.read_trials(store.planned_trial_ids()))
    return study_requests(study_trials(trials, limits, tariff), store.read_samples(), store.scan_requests)


def add_entities(store: RunStore, pipeline: str) -> None:
    """Count the named entities of a run's prompts and keep the counts in its samples.parquet for later reports.

    Raises: NoPipelineError: spaCy or the pipeline is missing; nothing is written. RunDirectoryError: a run is writing
        there.
    """
    with store:
        store.write_samples(count_entities(store.read_samples(), pipeline))
