"""What requests got of what was promised, computed on paper."""

from typing import Any

import pytest

from runner.analysis.window.service import Service, describe_service, keeps_slo
from runner.spec.serving.slo import Slo
from tests.analysis.measurements import make_completion, make_measurement

SLO = Slo.model_validate({"ttft": "500 ms", "tpot": "100 ms", "e2el": "1.2 s"})


@pytest.mark.parametrize(
    ("first_s", "last_s", "changes", "is_good"),
    [
        (0.5, 1.2, {}, True),
        (0.51, 1.2, {}, False),  # TTFT
        (0.1, 1.11, {}, False),  # ten tokens after the first in 1.01 s
        (0.5, 1.21, {}, False),  # E2EL
        (0.4, 0.4, {"num_output_tokens": 1}, True),  # no token after the first
        (0.4, 0.9, {"error": "aborted"}, False),
        (0.4, 0.9, {"first_token_ns": None}, False),
    ],
)
def test_a_good_request_keeps_every_promise(
    first_s: float, last_s: float, changes: dict[str, Any], is_good: bool
) -> None:
    assert keeps_slo(make_completion("a", 0.0, first_s, last_s, **changes), SLO) == is_good


def test_goodput_attainment_and_the_energy_of_a_good_request() -> None:
    completions = [
        make_completion("good", 0.0, 0.2, 0.9),
        make_completion("late", 0.0, 0.9, 1.1),
        make_completion("failed", 0.0, 0.2, 0.9, error="aborted"),
        make_completion("good", 1.0, 1.2, 1.9),
        make_completion("straddles", -1.0, 0.2, 0.3, in_window=False),
    ]
    service = describe_service(make_measurement(completions, 4.0, identity={"slo": SLO}), 2000.0)
    assert service == Service(
        good_requests_per_s=0.5,
        slo_attainment_fraction=0.5,
        joules_per_good_request=1000.0,
        joules_per_good_output_token=pytest.approx(2000 / 22),
    )


def test_without_a_good_request_there_is_nothing_to_divide_by() -> None:
    service = describe_service(make_measurement([make_completion("a", 0, 2, 3)], 4.0, identity={"slo": SLO}), 2000.0)
    assert service == Service(good_requests_per_s=0.0, slo_attainment_fraction=0.0)


def test_without_an_slo_a_request_or_an_energy_it_is_unknown() -> None:
    good = make_completion("a", 0.0, 0.2, 0.9)
    assert describe_service(make_measurement([good], 4.0), 2000.0) == Service()
    assert describe_service(make_measurement([], 4.0, identity={"slo": SLO}), 2000.0) == Service()
    service = describe_service(make_measurement([good], 4.0, identity={"slo": SLO}), None)
    assert (service.slo_attainment_fraction, service.joules_per_good_request) == (1.0, None)
