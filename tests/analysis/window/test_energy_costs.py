"""Joules per second, token and request, on numbers that divide on paper."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from runner.analysis.window.energy_costs import EnergyCosts, divide_energy
from runner.analysis.window.times import describe_times
from runner.analysis.window.work import Work, count_work
from runner.results.tables import TRIALS
from runner.spec.request import RequestKind
from tests.analysis.measurements import make_even_measurement

EVEN = make_even_measurement()
TIMES = describe_times(EVEN)
WORK = count_work(EVEN)
"""Eight requests in 4 s, with 100 prompt tokens and 11 output tokens each."""


def divide(
    energy_j: float | None = 2000.0,
    *,
    idle_power_w: float | None = 100.0,
    work: Work = WORK,
    request_kind: RequestKind = "generate",
    **times: Any,
) -> EnergyCosts:
    return divide_energy(
        energy_j, idle_power_w=idle_power_w, work=work, times=replace(TIMES, **times), request_kind=request_kind
    )


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(divide())) <= set(TRIALS)


def test_2000_j_are_divided() -> None:
    assert divide() == EnergyCosts(
        idle_power_w=100.0,
        mean_power_w=500.0,
        energy_above_idle_j=1600.0,
        joules_per_output_token=2000.0 / 88,
        joules_per_prompt_token=None,
        joules_per_request=250.0,
        energy_delay_product_js=250.0,
    )
    assert divide(latency_s_p50=3.0).energy_delay_product_js == pytest.approx(750.0)


def test_log_likelihoods_cost_prompt_tokens() -> None:
    costs = divide(request_kind="loglikelihood")
    assert (costs.joules_per_prompt_token, costs.joules_per_output_token) == (2.5, None)


def test_failed_requests_are_no_divisor() -> None:
    costs = divide(work=replace(WORK, num_failed_requests=2))
    assert costs.joules_per_request == pytest.approx(2000.0 / 6)


def test_without_an_energy_only_the_idle_power_is_known() -> None:
    assert divide(None) == EnergyCosts(idle_power_w=100.0)


def test_idle_power_unknown_leaves_the_energy_above_it_unknown() -> None:
    costs = divide(idle_power_w=None)
    assert (costs.energy_above_idle_j, costs.joules_per_request) == (None, 250.0)


def test_nothing_is_divided_by_nothing() -> None:
    nothing = Work(
        num_requests=1,
        num_failed_requests=1,
        num_truncated_requests=0,
        num_prompt_tokens=0,
        num_cached_tokens=0,
        num_output_tokens=0,
    )
    costs = divide(work=nothing, duration_s=0.0, latency_s_p50=None)
    assert costs == EnergyCosts(idle_power_w=100.0, energy_above_idle_j=2000.0)
    assert divide(work=nothing, request_kind="loglikelihood").joules_per_prompt_token is None
