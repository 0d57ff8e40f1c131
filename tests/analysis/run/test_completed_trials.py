"""Trials completed by what takes several of them to see."""

import polars as pl

from runner.analysis.run.completed_trials import complete_trials
from runner.results.tables import TRIALS
from tests.analysis.trial_rows import frame, trial

SENTINEL = {"is_sentinel": True, "num_output_tokens": 1000, "phase_reason": "as it was"}


def test_drift_and_phases_are_both_added() -> None:
    work = {
        "repeat": 0,
        "attempt": 1,
        "num_requests": 10,
        "num_failed_requests": 0,
        "num_truncated_requests": 0,
        "num_prompt_tokens": 1000,
        "num_cached_tokens": 0,
        "energy_uncertainty_j": 0.0,
    }
    whole = work | {"energy_j": 120.0, "num_output_tokens": 210}
    half = work | {"energy_j": 65.0, "num_output_tokens": 100, "phase_role": "half_length"}
    one = work | {"energy_j": 20.0, "num_output_tokens": 10, "phase_role": "one_token"}
    trials = frame(
        trial(None, 1.0, energy_j=500.0, **SENTINEL),
        *(trial(None, 1.0, block_id="phases", **row) for row in (half, whole, one)),
        trial(990, 1.0),
        trial(None, 1.0, energy_j=600.0, **SENTINEL),
    )
    completed = complete_trials(trials)
    assert completed.schema == pl.Schema(TRIALS)
    assert completed["trial_id"].to_list() == trials["trial_id"].to_list()
    assert completed["verdicts"].to_list() == [[], [], [], [], ["sentinel_drift"], ["sentinel_drift"]]
    row = completed.row(2, named=True)
    assert (row["phase_method"], row["joules_per_prefill_token"], row["joules_per_decode_token"]) == (
        "output_lengths",
        0.02,
        0.5,
    )


def test_a_trial_that_drifted_has_no_phases() -> None:
    """Drift comes first: a trial with its verdict is not sound, and so are the phases that rest on it."""
    rows = [
        trial(None, 1.0, energy_j=500.0, repeat=0, **SENTINEL),
        trial(None, 1.0, energy_j=120.0, repeat=0, num_output_tokens=210),
        trial(None, 1.0, energy_j=20.0, repeat=0, num_output_tokens=10, phase_role="one_token"),
        trial(None, 1.0, energy_j=600.0, repeat=1, **SENTINEL),
    ]
    reason = complete_trials(frame(*rows)).row(1, named=True)["phase_reason"]
    assert reason == "the trial itself is not sound: sentinel_drift"


def test_no_trials_stay_none() -> None:
    assert complete_trials(frame()).equals(frame())
