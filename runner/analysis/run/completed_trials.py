"""Rows of trials completed by what takes several trials of a block to see: drift, and phases by output lengths.

Rows of `tables.TRIALS` enter, the same rows leave. A trial's own file is written once and never changes, so this is
done whenever rows are gathered or reported.
"""

import polars as pl

from runner.analysis.run.drift import mark_sentinel_drift
from runner.analysis.run.phase_lengths import complete_phases


def complete_trials(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the trials, completed from the other trials of their blocks.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    return complete_phases(mark_sentinel_drift(trials))
