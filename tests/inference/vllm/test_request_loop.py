"""The loop beside an engine, over a stand-in for vLLM."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runner.inference.arrivals import Arrivals
from runner.inference.vllm import request_loop
from runner.inference.vllm.compat import FrontEnd
from runner.inference.vllm.iteration_log import IterationLog
from runner.inference.vllm.request_loop import RequestLoop
from runner.spec.request import UNFINISHED
from tests.inference.requests import GREEDY, generate, load
from tests.inference.vllm.stand_in import DeadError, StandInEngine


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    monkeypatch.setattr(request_loop, "make_prompt", tuple)
    monkeypatch.setattr(request_loop, "make_sampling_params", lambda *_, detokenize: detokenize)
    monkeypatch.setattr(request_loop, "engine_dead_error", lambda: DeadError)
    return StandInEngine()


def make_loop(stand_in: StandInEngine, **options: object) -> RequestLoop:
    front_end = FrontEnd(stand_in)
    return RequestLoop(front_end, IterationLog(front_end), GREEDY, detokenize=True, **options)  # type: ignore[arg-type]


def run(loop: RequestLoop, requests, concurrency: int, **options):
    loop.run(iter(requests), load(concurrency), **({"deadline_s": None, "on_progress": None} | options))
    return loop.completions(0)


def test_as_many_requests_are_in_flight_as_the_load_says(stand_in: StandInEngine) -> None:
    completions = run(make_loop(stand_in), [generate(i) for i in range(10)], 4)
    assert [completion.request_id for completion in completions] == [f"r{i}" for i in range(10)]
    assert stand_in.most_in_flight == 4


def test_repeats_of_a_request_have_ids_of_their_own(stand_in: StandInEngine) -> None:
    completions = run(make_loop(stand_in), [generate(0), generate(1), generate(0)], 3)
    assert [(completion.request_id, completion.round) for completion in completions] == [
        ("r0", 0),
        ("r1", 0),
        ("r0", 1),
    ]


def test_the_place_of_a_refused_request_goes_to_the_next_one(stand_in: StandInEngine) -> None:
    refused = replace(generate(0), prompt_token_ids=())
    completions = run(make_loop(stand_in), [refused, refused, generate(1), generate(2)], 2)
    assert [completion.error for completion in completions] == ["refused: the prompt is empty"] * 2 + [None] * 2
    assert stand_in.most_in_flight == 2


def test_requests_that_come_together_are_handed_in_in_one_block(stand_in: StandInEngine) -> None:
    blocks = []

    @contextlib.contextmanager
    def together() -> Iterator[None]:
        before = len(stand_in.waiting)
        yield
        blocks.append(len(stand_in.waiting) - before)

    run(make_loop(stand_in, hand_in_together=together), [generate(i) for i in range(6)], 4)
    assert blocks == [4, 1, 1]


def test_at_the_deadline_requests_are_withdrawn_and_the_core_has_dropped_them(stand_in: StandInEngine) -> None:
    completions = run(make_loop(stand_in), [generate(i) for i in range(5)], 3, deadline_s=-1.0)
    late = "not finished within the limit of -1 s; aborted"
    assert [completion.error for completion in completions] == [None, late, late]
    assert stand_in.withdrawn == ["r1#0", "r2#0"]
    assert stand_in.num_questions == 1


def test_a_request_that_takes_too_long_is_withdrawn_alone(
    stand_in: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_loop, "_CHECK_PERIOD_S", 0.0)
    ended = stand_in.step

    def step():
        if stand_in.waiting == ["r0#0"]:  # a request that never ends
            time.sleep(0.01)
            return []
        stand_in.waiting.sort()
        stand_in.waiting.append(stand_in.waiting.pop(0))
        return ended()

    monkeypatch.setattr(stand_in, "step", step)
    completions = run(make_loop(stand_in, request_limit_s=0.05), [generate(0), generate(1)], 2)
    assert {completion.request_id: completion.error for completion in completions} == {
        "r0": "not finished within the request's limit of 0.05 s; aborted",
        "r1": None,
    }


def test_the_death_of_the_core_goes_through(stand_in: StandInEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise DeadError

    monkeypatch.setattr(stand_in, "add_request", die)
    with pytest.raises(DeadError):
        run(make_loop(stand_in), [generate(0)], 1)


def test_a_dead_core_has_nothing_to_withdraw(stand_in: StandInEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise DeadError

    monkeypatch.setattr(stand_in, "step", die)
    monkeypatch.setattr(stand_in, "abort_request", die)
    loop = make_loop(stand_in)
    with pytest.raises(DeadError):
        run(loop, [generate(0)], 1)
    loop.abort("interrupted")
    assert [completion.error for completion in loop.completions(0)] == ["interrupted"]


# requests that arrive -------------------------------------------------------------------------------------------------


def run_arrivals(loop: RequestLoop, stand_in: StandInEngine, num_requests: int, **options):
    """A request every 10 ms: two in a ramp, four in a window. A step is always ready to end."""
    for _ in range(1000):
        stand_in.engine_core.outputs_queue.put(None)
    arrivals = Arrivals(
        ramp=(0.01, 0.02),
        ramp_s=0.02,
        window=(0.01, 0.02, 0.03, 0.04),
        window_s=0.04,
        follow_s=options.pop("follow_s", 5),
    )
    requests = iter([generate(i) for i in range(num_requests)])
    start_ns = time.monotonic_ns()
    loop.run_arrivals(requests, arrivals, start_ns=start_ns, **({"deadline_s": None, "on_progress": None} | options))
    return start_ns, loop.completions(0)


def test_requests_are_handed_in_when_they_arrive_and_not_before(stand_in: StandInEngine) -> None:
    start_ns, completions = run_arrivals(make_loop(stand_in), stand_in, 100)
    counted = [completion for completion in completions if completion.in_window]
    assert [completion.request_id for completion in counted] == ["r2", "r3", "r4", "r5"]
    arrived_ms = [round((completion.queued_ns - start_ns) * 1e-6) for completion in counted]
    assert arrived_ms == [30, 40, 50, 60]
    assert all(completion.arrival_lateness_s >= 0 for completion in completions)
    assert all(completion.error is None for completion in counted)


def test_the_edges_of_the_window_are_told_once_each(stand_in: StandInEngine) -> None:
    told: list[int] = []
    start_ns, _ = run_arrivals(make_loop(stand_in), stand_in, 100, on_edge=lambda: told.append(time.monotonic_ns()))
    assert len(told) == 2
    assert [told[0] - start_ns >= 20_000_000, told[1] - start_ns >= 60_000_000] == [True, True]


def test_a_request_that_does_not_end_is_withdrawn_when_it_is_no_longer_followed(
    stand_in: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "step", list)
    _, completions = run_arrivals(make_loop(stand_in), stand_in, 100, follow_s=0.05)
    assert {completion.error for completion in completions} == {UNFINISHED}
    assert {f"r{i}#0" for i in range(6)} <= set(stand_in.withdrawn)


def test_a_refused_request_of_the_window_has_ended(stand_in: StandInEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("too long")

    monkeypatch.setattr(stand_in, "add_request", refuse)
    _, completions = run_arrivals(make_loop(stand_in), stand_in, 100)
    assert {completion.error for completion in completions} == {"refused: too long"}
    assert sum(completion.in_window for completion in completions) == 4


def test_an_iterator_that_ends_ends_the_run(stand_in: StandInEngine) -> None:
    _, completions = run_arrivals(make_loop(stand_in), stand_in, 3)
    assert len(completions) == 3
