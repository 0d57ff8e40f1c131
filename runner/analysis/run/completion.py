"""What only several trials of a block together tell: rows of `tables.TRIALS` enter, the same rows leave, completed.

Each trial's own file is written once and never again; this is applied whenever rows are gathered or reported.
"""

import polars as pl

from runner.analysis.run.drift import mark_sentinel_drift
from runner.analysis.run.phase_lengths import complete_phases


def complete_trials(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the trials with what their blocks say of them.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    return complete_phases(mark_sentinel_drift(trials))
