"""A window's energy by phase, and intervals from several values, on numbers that divide on paper."""

from dataclasses import asdict

import pytest

from runner.analysis.window.phases.phase_energy import Phases, reach_over, share_energy
from runner.analysis.window.work import Work
from runner.results.tables import TRIALS

WORK = Work(
    num_requests=10,
    num_failed_requests=0,
    num_truncated_requests=0,
    num_prompt_tokens=1000,
    num_cached_tokens=200,
    num_output_tokens=210,
)
"""800 tokens of prefill, 200 of decoding."""
T_2 = 4.302653
"""Student's t, two-sided 95 %, two degrees of freedom (any table)."""


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(Phases())) <= set(TRIALS)


def test_the_phases_take_their_tokens_joules_and_leave_the_rest() -> None:
    shares = share_energy(200.0, WORK, joules_per_prefill_token=0.1, joules_per_decode_token=0.5)
    assert (shares.prefill_j, shares.decode_j) == (pytest.approx(80.0), pytest.approx(100.0))
    assert shares.residual_fraction == pytest.approx(0.1)


def test_a_residual_may_be_negative() -> None:
    shares = share_energy(160.0, WORK, joules_per_prefill_token=0.1, joules_per_decode_token=0.5)
    assert shares.residual_fraction == pytest.approx(-0.125)


def test_where_one_phase_is_unknown_there_is_no_residual() -> None:
    shares = share_energy(200.0, WORK, joules_per_prefill_token=None, joules_per_decode_token=0.5)
    assert (shares.prefill_j, shares.decode_j, shares.residual_fraction) == (None, pytest.approx(100.0), None)
    shares = share_energy(200.0, WORK, joules_per_prefill_token=0.1, joules_per_decode_token=None)
    assert (shares.prefill_j, shares.decode_j, shares.residual_fraction) == (pytest.approx(80.0), None, None)


def test_an_interval_is_students() -> None:
    low, high = reach_over([0.9, 1.0, 1.1], [0.9, 1.0, 1.1], 0.0)
    assert (low, high) == pytest.approx((1.0 - T_2 * 0.1 / 3**0.5, 1.0 + T_2 * 0.1 / 3**0.5), rel=1e-6)


def test_an_interval_reaches_from_the_lesser_values_to_the_greater_ones() -> None:
    assert reach_over([1.0, 1.0], [2.0, 2.0], 0.0) == (1.0, 2.0)


def test_what_the_sensor_misses_is_added_in_quadrature() -> None:
    assert reach_over([1.0], [1.0], 0.25) == (0.75, 1.25)  # one value alone shows no scatter
    half_width = T_2 * 0.1 / 3**0.5
    low, _ = reach_over([0.9, 1.0, 1.1], [0.9, 1.0, 1.1], 0.3)
    assert low == pytest.approx(1.0 - (half_width**2 + 0.3**2) ** 0.5, rel=1e-6)
