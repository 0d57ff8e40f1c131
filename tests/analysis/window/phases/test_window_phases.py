"""Which windows tell their phases apart by themselves, and what the others say."""

from dataclasses import replace
from typing import Any

import pytest

from runner.analysis.energy.account import account_energy
from runner.analysis.window.phases.phase_energy import Phases
from runner.analysis.window.phases.window_phases import MIXED, describe_phases
from runner.analysis.window.work import count_work
from runner.results.measurement import Measurement
from tests.analysis.measurements import (
    LOGLIKELIHOOD,
    make_completion,
    make_even_measurement,
    make_measurement,
    make_power,
)


def describe(measurement: Measurement, **energy: Any) -> Phases:
    account = account_energy(measurement)
    return describe_phases(measurement, count_work(measurement), replace(account.energy, **energy))


def make_prefill(**changes: Any) -> Measurement:
    """Four requests of 100 prompt tokens that generate one token each, in 4 s at 500 W."""
    completions = [make_completion(f"r/{k}", k, k + 1.0, k + 1.0, num_output_tokens=1, **changes) for k in range(4)]
    return make_measurement(completions, 4.0)


def test_where_nothing_is_decoded_all_energy_is_prefills() -> None:
    phases = describe(make_prefill(), energy_uncertainty_j=20.0)
    assert phases == Phases(
        phase_method="all_prefill",
        phase_reason="nothing was decoded",
        phase_interval="sensor",
        prefill_energy_j=pytest.approx(2000.0),
        joules_per_prefill_token=pytest.approx(5.0),
        joules_per_prefill_token_low=pytest.approx(1980.0 / 400),
        joules_per_prefill_token_high=pytest.approx(2020.0 / 400),
    )


def test_log_likelihoods_are_prefill_alone() -> None:
    completions = [
        make_completion(f"r/{k}", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0) for k in range(4)
    ]
    phases = describe(make_measurement(completions, 4.0, identity=LOGLIKELIHOOD))
    assert (phases.phase_method, phases.joules_per_prefill_token) == ("all_prefill", pytest.approx(5.0))


def test_a_sensor_of_unknown_uncertainty_gives_no_interval() -> None:
    phases = describe(make_prefill(), energy_uncertainty_j=None)
    assert (phases.joules_per_prefill_token, phases.joules_per_prefill_token_low) == (pytest.approx(5.0), None)
    assert phases.phase_interval is None


def test_prompts_from_the_cache_alone_have_no_prefill() -> None:
    phases = describe(make_prefill(num_cached_tokens=100))
    assert phases == Phases(phase_reason="no prompt token was computed")


def test_an_ordinary_window_mixes_the_phases() -> None:
    assert describe(make_even_measurement()) == Phases(phase_reason=MIXED)


def test_a_paired_trial_leaves_the_phases_to_the_trial_of_full_length() -> None:
    phases = describe(make_even_measurement(identity={"phase_role": "half_length"}))
    assert phases == Phases(phase_reason="measured for the phases of the full-length trial beside it")
    one_token = replace(make_prefill(), identity=make_even_measurement(identity={"phase_role": "one_token"}).identity)
    assert describe(one_token).phase_method == "all_prefill"


def test_without_an_energy_nothing_is_split() -> None:
    blind = make_even_measurement(power=make_power(None, 4.0), counter_start=None, counter_end=None)
    assert describe(blind) == Phases(phase_reason="the energy of the window is unknown")


def test_a_window_of_static_batches_is_cut_into_them() -> None:
    phases = describe(make_even_measurement(batch_edges_ns=()))
    assert phases == Phases(phase_reason="this version of the engine does not tell its steps")
