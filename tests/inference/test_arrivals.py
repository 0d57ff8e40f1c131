"""Arrivals of an open loop: the same gaps as `vllm bench serve`, the same at every operating point."""

import asyncio
import time
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from runner.inference.arrivals import draw_arrivals, draw_times
from runner.spec.load import OpenLoop

EVEN = OpenLoop(request_rate_per_s=2.0, burstiness=float("inf"))


def test_even_arrivals_are_one_over_the_rate_apart() -> None:
    assert draw_times(4, 2.0, float("inf"), seed=0).tolist() == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("burstiness", [0.2, 1.0, 5.0])
def test_gaps_follow_a_gamma_distribution_and_fill_the_time(burstiness: float) -> None:
    times_s = draw_times(20_000, 10.0, burstiness, seed=3)
    assert times_s[-1] == pytest.approx(2000.0)
    gaps_s = np.diff(times_s, prepend=0.0)
    assert (gaps_s >= 0).all()
    # The coefficient of variation of a gamma distribution is one over the root of its shape.
    assert np.std(gaps_s) / np.mean(gaps_s) == pytest.approx(burstiness**-0.5, rel=0.05)


def test_a_window_holds_whole_rounds_and_ends_with_its_last_arrival() -> None:
    arrivals = draw_arrivals(EVEN, num_round=30, min_window_s=20.0, ramp_s=3.0, seed=0)
    assert (len(arrivals.window), arrivals.window_s, arrivals.num_ramp, arrivals.ramp_s) == (60, 30.0, 6, 3.0)
    assert [arrivals.time_s(i) for i in (0, 5, 6, 65, 66)] == [0.5, 3.0, 3.5, 33.0, 33.5]
    assert [arrivals.is_in_window(i) for i in (0, 5, 6, 65, 66)] == [False, False, True, True, False]
    assert arrivals.limit_s == 63.0


def test_a_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    load = OpenLoop(request_rate_per_s=7.0)
    first, again, other = (
        draw_arrivals(load, num_round=50, min_window_s=10.0, ramp_s=2.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.window != other.window
    assert first.ramp[:5] != first.window[:5]


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM")
@pytest.mark.parametrize("burstiness", [0.5, 1.0, 3.0, float("inf")])
def test_arrivals_are_those_of_vllms_own_load(monkeypatch: pytest.MonkeyPatch, burstiness: float) -> None:
    serve = pytest.importorskip("vllm.benchmarks.serve")
    slept: list[float] = []

    async def note(delay_s: float) -> None:
        slept.append(delay_s)

    # Its clock stands still, so that it sleeps from the start until each arrival.
    monkeypatch.setattr(serve.asyncio, "sleep", note)
    monkeypatch.setattr(serve, "time", SimpleNamespace(time=lambda: 0.0, perf_counter=time.perf_counter))

    async def drain() -> None:
        requests = [object()] * 100
        async for _ in serve.get_request(requests, request_rate=4.0, burstiness=burstiness):
            pass

    np.random.seed(17)
    asyncio.run(drain())
    assert slept == pytest.approx(draw_times(100, 4.0, burstiness, seed=17).tolist(), abs=1e-12)
