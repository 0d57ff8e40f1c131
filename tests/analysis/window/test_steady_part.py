"""The steady part of a window, on hand-made requests."""

from dataclasses import asdict

import polars as pl
import pytest

from runner.analysis.window.steady_part import SteadyPart, find_steady_part
from runner.results.tables import TRIALS
from tests.analysis.measurements import (
    LOGLIKELIHOOD,
    at,
    in_flight,
    make_completion,
    make_even_measurement,
    make_measurement,
    make_power,
)

NONE = SteadyPart()


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(NONE)) <= set(TRIALS)


def test_it_runs_from_the_last_first_token_to_the_first_empty_place() -> None:
    part = find_steady_part(make_even_measurement())
    # From 0.1 s (both have their first token) to 4.0 s (no request comes after); of the first two, 10 tokens each.
    assert part.steady_duration_s == pytest.approx(3.9)
    assert part.steady_energy_j == pytest.approx(1950.0)
    assert part.steady_num_output_tokens == 2 * 10 + 6 * 11


def test_log_likelihoods_have_a_steady_part_without_output_tokens() -> None:
    completions = [
        make_completion(f"task/{place}-{k}", k, k + 1.0, k + 1.0, kind="loglikelihood", num_output_tokens=0)
        for k in range(4)
        for place in range(2)
    ]
    part = find_steady_part(make_measurement(completions, 4.0, identity=LOGLIKELIHOOD))
    assert part.steady_duration_s == pytest.approx(3.0)
    assert part.steady_energy_j == pytest.approx(1500.0)
    assert part.steady_num_output_tokens is None


def test_the_drain_is_left_out() -> None:
    """Two places: one request drains alone from 3 to 5 s."""
    completions = [make_completion(f"task/{k}", k, k + 0.1, k + 1.0) for k in range(3)]
    completions += [make_completion("task/8", 0.0, 0.2, 2.0), make_completion("task/9", 2.0, 2.1, 5.0)]
    part = find_steady_part(make_measurement(completions, 5.0))
    # 0.2 s to 3.0 s. Tokens: 11 - (1 + 10/9) of the first, 11 + 11, 10 of "8", 1 + 0.9/2.9 * 10 of "9".
    num_tokens = (10 - 10 / 9) + 22 + 10 + (1 + 9 / 2.9)
    assert part.steady_duration_s == pytest.approx(2.8)
    assert part.steady_energy_j == pytest.approx(1400.0)
    assert part.steady_num_output_tokens == round(num_tokens)


def test_it_follows_the_load() -> None:
    completions = [make_completion(f"task/{k}", k, k + 0.1, k + 1.0) for k in range(4)]
    alone = find_steady_part(make_measurement(completions, 4.0, identity=in_flight(1)))
    assert alone.steady_duration_s == pytest.approx(3.9)  # one place, taken until the last request ends
    assert find_steady_part(make_measurement(completions, 4.0, identity=in_flight(3))) == NONE


def test_requests_of_one_token_count_where_it_falls_into_the_steady_part() -> None:
    completions = [make_completion(f"task/{k}", k, k + 0.5, k + 0.5, num_output_tokens=1) for k in range(4)]
    part = find_steady_part(make_measurement(completions, 4.0, identity=in_flight(1)))
    # From the first one's token, which is outside, to the last one's, which is inside.
    assert part.steady_num_output_tokens == 3


def test_too_few_requests_have_no_steady_part() -> None:
    completions = [make_completion(f"task/{k}", 0, 1, 3) for k in range(3)]
    assert find_steady_part(make_measurement(completions, 3.0)) == NONE
    failed = [make_completion(f"task/{k}", k, k + 0.1, k + 1.0, error="aborted") for k in range(4)]
    assert find_steady_part(make_measurement([*completions, *failed], 4.0)) == NONE


def test_without_an_energy_of_it_the_steady_part_is_unknown() -> None:
    holed = make_power(500.0, 4.0).filter(~pl.col("time_ns").is_between(at(1.0), at(2.0)))
    assert find_steady_part(make_even_measurement(power=holed)) == NONE
