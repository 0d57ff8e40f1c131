"""The search for the highest rate that keeps an SLO, on the simulated GPU in virtual time."""

from collections.abc import Iterator

import pytest

from runner.execution.worker.trial.capacity import RESOLUTION, find_capacity
from runner.execution.worker.trial.procedure import Procedure
from runner.inference.engine import Sampling
from runner.spec.operating_point import OperatingPoint
from runner.spec.serving.slo import Slo
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

SLO = Slo.model_validate({"ttft": "300 ms", "tpot": "25 ms"})
PROCEDURE = Procedure(sampling=Sampling(), min_window_s=10.0, num_warmup_requests=4, deadline_s=600.0, ramp_s=4.0)
REQUESTS = make_requests(512, 128, 60)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualContext]:
    with open_context(tmp_path_factory.mktemp("capacity")) as opened:
        yield opened


def test_a_lower_clock_has_a_lower_capacity_and_the_search_closes_in_on_it(context: VirtualContext) -> None:
    engine, found = context.context.engine, []
    for sm_clock_mhz in (None, 1200):
        context.context.lease.apply(OperatingPoint(sm_clock_mhz=sm_clock_mhz))
        context.time_source.sleep(1.0)
        found.append(find_capacity(engine, REQUESTS, SLO, PROCEDURE))
    default, lower = (capacity.rate_per_s for capacity in found)
    assert default is not None
    assert lower is not None
    # With 256 in flight the GPU model serves 57/s and 44/s.
    assert 45 < default < 58
    assert 35 < lower < 45
    for capacity in found:
        assert capacity.broken_rate_per_s - (capacity.rate_per_s or 0.0) <= RESOLUTION * capacity.broken_rate_per_s
        assert capacity.num_rates < 12


def test_a_promise_that_no_rate_keeps_has_no_capacity(context: VirtualContext) -> None:
    impossible = Slo.model_validate({"ttft": "1 ms"})
    assert find_capacity(context.context.engine, REQUESTS, impossible, PROCEDURE).rate_per_s is None


def test_an_interrupt_ends_the_search(context: VirtualContext) -> None:
    asked = 0

    def is_interrupted() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1000

    capacity = find_capacity(context.context.engine, REQUESTS, SLO, PROCEDURE, is_interrupted=is_interrupted)
    assert capacity.num_rates <= 2
