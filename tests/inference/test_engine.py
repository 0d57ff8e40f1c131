"""The contract of `Engine`, for every engine: the simulated one in virtual time, and vLLM with a small model."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from runner.inference.engine import Engine, EngineError
from runner.inference.simulated.engine import SimulatedEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import ModelShape, get_shape
from runner.timebase import VirtualTime
from tests.engines import ON_ENGINE, SharedEngines
from tests.inference.requests import GREEDY, generate, load, score
from tests.inference.tiny_model import prompt

SLEW_NS = 100_000_000
"""By which the host's clock may have been set in the course of a run."""


@dataclass(frozen=True)
class Case:
    """An engine and its time source."""

    engine: Engine
    now_ns: Callable[[], int]


def make_simulated(folder: Path) -> Case:
    time_source = VirtualTime(1_700_000_000_000_000_000)
    engine = SimulatedEngine(
        shape=get_shape("mistral-7b"),
        gpu_model=load_gpu_model(),
        state=GpuState(folder / "gpu"),
        time_source=time_source,
        max_model_len=512,
    )
    return Case(engine, time_source.now_ns)


@pytest.fixture(params=["simulated", pytest.param("vllm", marks=ON_ENGINE)])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "simulated":
        return make_simulated(tmp_path)
    engines: SharedEngines = request.getfixturevalue("shared_engines")
    return Case(engines.small(), time.time_ns)


def test_facts_about_the_model(case: Case) -> None:
    assert case.engine.max_model_len == 512
    assert case.engine.vocab_size >= 512
    assert isinstance(case.engine.shape, ModelShape)
    assert case.engine.encode is not None
    token_ids = case.engine.encode("Where is the red lamp?")
    assert token_ids == case.engine.encode("Where is the red lamp?")
    assert all(0 <= token_id < case.engine.vocab_size for token_id in token_ids)


def test_every_request_is_answered_and_says_which_it_was(case: Case) -> None:
    requests = [generate(i, 10 + i, 2 + i % 5) for i in range(12)] + [score(i, prompt(i, 20), 15) for i in range(12)]
    by_id = {
        completion.request_id: completion for completion in case.engine.run(iter(requests), load(4), GREEDY).completions
    }
    assert len(by_id) == 24
    for request in requests:
        completion = by_id[request.request_id]
        assert (completion.sample_id, completion.kind, completion.round) == (request.sample_id, request.kind, 0)
        assert completion.num_prompt_tokens == len(request.prompt_token_ids)
        assert completion.num_output_tokens == request.max_output_tokens
        assert (completion.error, completion.truncated) == (None, False)


def test_a_run_without_requests_is_empty(case: Case) -> None:
    run = case.engine.run(iter([]), load(4), GREEDY)
    assert (run.completions, run.steps) == ([], [])
    assert run.start_ns <= run.end_ns


def test_times_are_ordered_within_the_run(case: Case) -> None:
    before_ns = case.now_ns()
    run = case.engine.run((generate(i) for i in range(6)), load(3), GREEDY)
    assert before_ns <= run.start_ns
    assert run.end_ns <= case.now_ns() + SLEW_NS
    for c in run.completions:
        stamps = [run.start_ns, c.queued_ns, c.scheduled_ns, c.first_token_ns, c.last_token_ns, run.end_ns]
        assert stamps == sorted(stamps)  # type: ignore[type-var]
        assert c.num_cached_tokens == 0
    last_ns = max(c.last_token_ns or 0 for c in run.completions)
    assert run.steps[-1].time_ns == pytest.approx(last_ns, abs=1e3)


def test_the_load_is_reached_and_never_exceeded_and_steps_hold_every_token(case: Case) -> None:
    run = case.engine.run((generate(i % 5, num_output_tokens=4 + i % 7) for i in range(30)), load(6), GREEDY)
    assert [completion.error for completion in run.completions] == [None] * 30
    assert max(step.num_running for step in run.steps) == 6
    assert sum(step.num_prefill_tokens for step in run.steps) == 30 * 20
    assert sum(step.num_decode_tokens for step in run.steps) == sum(3 + i % 7 for i in range(30))


def test_requests_are_taken_only_when_a_place_is_free(case: Case) -> None:
    taken_ns = []

    def requests():
        for i in range(12):
            taken_ns.append(case.now_ns())
            yield generate(i, num_output_tokens=4 + i % 5)

    run = case.engine.run(requests(), load(3), GREEDY)
    finished_ns = sorted(completion.last_token_ns or 0 for completion in run.completions)
    assert all(taken >= finished for taken, finished in zip(taken_ns[3:], finished_ns, strict=False))


def test_rounds_tell_repeats_apart(case: Case) -> None:
    run = case.engine.run(iter([generate(0), generate(1), generate(0), generate(0)]), load(2), GREEDY)
    rounds = sorted((completion.request_id, completion.round) for completion in run.completions)
    assert rounds == [("r0", 0), ("r0", 1), ("r0", 2), ("r1", 0)]
    assert sorted(completion.row_id for completion in run.completions) == ["r0#0", "r0#1", "r0#2", "r1#0"]
    assert len({c.output_token_ids for c in run.completions if c.sample_id == "s0"}) == 1
    [again] = case.engine.run(iter([generate(0)]), load(1), GREEDY).completions
    assert again.round == 0


def test_lengths_are_fixed_where_the_end_of_text_is_ignored(case: Case) -> None:
    run = case.engine.run((generate(i, num_output_tokens=33) for i in range(8)), load(8), GREEDY)
    assert {completion.num_output_tokens for completion in run.completions} == {33}


def test_a_scored_prompt_generates_nothing(case: Case) -> None:
    [completion] = case.engine.run(iter([score(0, prompt(0, 30), 20)]), load(1), GREEDY).completions
    assert (completion.kind, completion.num_output_tokens, completion.text) == ("loglikelihood", 0, None)


def test_a_refused_request_is_a_completion_with_an_error(case: Case) -> None:
    run = case.engine.run(iter([generate(0), generate(1, num_prompt_tokens=600), generate(2)]), load(2), GREEDY)
    errors = {completion.sample_id: completion.error for completion in run.completions}
    assert (errors["s0"], errors["s2"]) == (None, None)
    assert errors["s1"] is not None
    assert errors["s1"].startswith("refused: ")
    assert "512" in errors["s1"]


def test_at_the_deadline_what_is_in_flight_is_aborted_and_the_engine_stays_usable(case: Case) -> None:
    # The lengths differ, so that requests in flight never all end in one step.
    run = case.engine.run(
        (generate(i, num_output_tokens=150 + 2 * i) for i in range(40)), load(4), GREEDY, deadline_s=0.3
    )
    late = [completion for completion in run.completions if completion.error]
    assert 0 < len(late) <= 4
    assert len(run.completions) < 40
    assert {completion.error for completion in late} == {"not finished within the limit of 0.3 s; aborted"}
    assert case.engine.reset_prefix_cache() is True
    assert len(case.engine.run(iter([generate(0)]), load(1), GREEDY).completions) == 1


def test_progress_is_reported_four_times_a_second_at_most(case: Case) -> None:
    seen: list[tuple[int, int]] = []
    run = case.engine.run(
        (generate(i, num_output_tokens=200) for i in range(8)),
        load(4),
        GREEDY,
        on_progress=lambda *done: seen.append(done),
    )
    assert 0 < len(seen) <= (run.end_ns - run.start_ns) / 0.25e9
    assert all(before[0] <= after[0] and before[1] <= after[1] for before, after in pairwise(seen))
    assert seen[-1][1] <= 8 * 200


def test_an_interrupt_leaves_the_engine_usable(case: Case) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.engine.run((generate(i, num_output_tokens=230) for i in range(40)), load(4), GREEDY, on_progress=interrupt)
    run = case.engine.run(iter([generate(0), generate(1)]), load(2), GREEDY)
    assert {completion.row_id for completion in run.completions} == {"r0#0", "r1#0"}
    assert max(step.num_running for step in run.steps) <= 2


def test_a_closed_simulated_engine_says_so(tmp_path: Path) -> None:
    engine = make_simulated(tmp_path).engine
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(iter([generate(0)]), load(1), GREEDY)
    with pytest.raises(EngineError, match="closed"):
        engine.reset_prefix_cache()
    engine.close()
