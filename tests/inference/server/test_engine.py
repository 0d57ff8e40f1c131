"""The engine against a fake server: the closed loop, errors of single requests, and a server that dies or restarts."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import psutil
import pytest

from runner.inference.arrivals import Arrivals
from runner.inference.engine import EngineError
from runner.inference.server import engine as engine_module
from runner.inference.server.address import parse_address
from runner.inference.server.engine import ServerEngine
from runner.inference.server.look import look_at_server
from runner.inference.server.questions import ServerAwayError, ServerError
from runner.inference.server.tokenizer import ModelFiles
from runner.spec.request import UNFINISHED
from tests.inference.requests import GREEDY, generate, load, score
from tests.inference.server.fake_server import SMALL_MODEL, Behaviour, ServerProcess


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[ServerProcess, ServerEngine]]]:
    """Starts a fake server and an engine on it. Both end with the test."""
    files = ModelFiles(
        encode=lambda text: [ord(letter) for letter in text],
        decode=lambda ids: f"text of {len(ids)}",
        vocab_size=1024,
        max_position=2048,
        shape=None,
    )
    monkeypatch.setattr(engine_module, "read_model_files", lambda *_: files)
    opened: list[tuple[ServerProcess, ServerEngine]] = []

    def start(options: dict[str, Any] | None = None, **behaviour: Any) -> tuple[ServerProcess, ServerEngine]:
        server = ServerProcess(Behaviour(**behaviour))
        try:
            facts = look_at_server(parse_address(server.url))
            engine = ServerEngine(facts, SMALL_MODEL, scores=True, **options or {})
        except BaseException:
            server.kill()
            raise
        opened.append((server, engine))
        return server, engine

    yield start
    for server, engine in opened:
        engine.close()
        server.kill()


Attach = Callable[..., tuple[ServerProcess, ServerEngine]]


def test_the_load_s_number_is_in_flight_and_every_request_comes_back(attach: Attach) -> None:
    server, engine = attach(token_s=0.005)
    told: list[tuple[int, int]] = []
    before = len(server.log()["bodies"])
    run = engine.run(
        (generate(number % 6) for number in range(24)), load(4), GREEDY, on_progress=lambda *done: told.append(done)
    )
    assert server.log()["most_in_flight"] == 4
    assert len(server.log()["bodies"]) - before == len(run.completions) == 24
    assert sorted({(c.request_id, c.round) for c in run.completions}) == sorted(
        (f"r{number}", round_) for number in range(6) for round_ in range(4)
    )
    for completion in run.completions:
        assert (completion.error, completion.num_output_tokens, completion.num_prompt_tokens) == (None, 16, 20)
        assert completion.queued_ns is not None
        assert completion.first_token_ns is not None
        assert completion.last_token_ns is not None
        assert run.start_ns <= completion.queued_ns < completion.first_token_ns <= completion.last_token_ns
        assert completion.last_token_ns <= run.end_ns
        assert completion.scheduled_ns is None
    assert run.steps == []
    assert told
    assert told == sorted(told)


def test_what_was_asked_for_is_what_is_sent(attach: Attach) -> None:
    server, engine = attach()
    sampling = replace(GREEDY, temperature=0.5, top_p=0.9, seed=7)
    asked = generate(1, num_output_tokens=3, stop=("\n",))
    engine.run(iter([asked]), load(1), sampling)
    body = server.log()["bodies"][-1]
    assert body == {
        "model": SMALL_MODEL,
        "prompt": list(asked.prompt_token_ids),
        "max_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
    }


def test_a_server_that_takes_no_ids_gets_their_text(attach: Attach) -> None:
    server, engine = attach(takes_token_ids=False)
    run = engine.run(iter([generate(1)]), load(1), GREEDY)
    assert server.log()["bodies"][-1]["prompt"] == "text of 20"
    assert run.completions[0].num_prompt_tokens == len("text of 20")  # what the server counted


def test_log_likelihoods_are_scored(attach: Attach) -> None:
    _, engine = attach()
    run = engine.run(iter([score(1, (5, 6, 7, 8), 2)]), load(1), GREEDY)
    found = run.completions[0]
    assert (found.loglikelihood, found.is_greedy, found.num_output_tokens) == (-5.0, False, 0)


def test_a_refused_request_is_an_error_of_its_own(attach: Attach) -> None:
    _, engine = attach()
    run = engine.run(iter([generate(1), generate(2, num_prompt_tokens=401), generate(3)]), load(1), GREEDY)
    assert [completion.error for completion in run.completions] == [None, "refused: 400: the prompt is too long", None]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"completions_status_after": 2}, "no request ended well; the first one: refused: 500: engine is dead"),
        ({"breaks_off": True}, "no request ended well; the first one: the"),
        ({"keeps_ignore_eos": False}, "1 tokens came and not 16: the server does not keep ignore_eos"),
    ],
)
def test_a_run_in_which_nothing_ends_well_has_no_result(
    attach: Attach, behaviour: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "breaks_off" in behaviour:  # else the engine would not open
        monkeypatch.setattr("runner.inference.server.look._require_usage", lambda *_: None)
    _, engine = attach(**behaviour)
    with pytest.raises(EngineError, match=message):
        engine.run(iter([generate(1), generate(2)]), load(2), GREEDY)


def test_a_server_that_only_fails_is_not_asked_for_ever(attach: Attach) -> None:
    server, engine = attach(completions_status_after=12)
    endless = (generate(number) for number in count())
    with pytest.raises(EngineError, match="16 requests in a row failed; the last one: refused: 500"):
        engine.run(endless, load(2), GREEDY)
    assert len(server.log()["bodies"]) < 100


def test_limits_withdraw_requests(attach: Attach) -> None:
    server, engine = attach({"request_limit_s": 0.5}, token_s=0.05)
    run = engine.run(iter([generate(1, num_output_tokens=200), generate(2, num_output_tokens=2)]), load(1), GREEDY)
    assert run.completions[0].error == "not finished within the request's limit of 0.5 s; aborted"
    assert run.completions[1].error is None

    server, engine = attach(token_s=0.05)
    requests = [generate(1, num_output_tokens=2), generate(2, num_output_tokens=200)]
    run = engine.run(iter(requests), load(2), GREEDY, deadline_s=1.0)
    assert [c.error for c in run.completions] == [None, "not finished within the limit of 1 s; aborted"]
    assert (run.end_ns - run.start_ns) * 1e-9 >= 1.0
    assert engine.run(iter([generate(3)]), load(1), GREEDY).completions[0].error is None
    assert server.process.poll() is None


def test_an_interrupt_withdraws_what_is_in_flight_and_leaves_the_engine_usable(attach: Attach) -> None:
    server, engine = attach(token_s=0.01)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(
            (generate(number, num_output_tokens=300) for number in count()), load(2), GREEDY, on_progress=interrupt
        )
    assert engine.run(iter([generate(0)]), load(1), GREEDY).completions[0].error is None
    assert server.process.poll() is None


def test_a_server_that_dies_ends_the_run_and_another_engine_waits_until_it_is_back(attach: Attach) -> None:
    server, engine = attach(token_s=0.01)
    killing = threading.Timer(0.3, server.kill)
    killing.start()
    with pytest.raises(EngineError, match=r"has ended or has been restarted"):
        engine.run((generate(number) for number in count()), load(2), GREEDY)
    killing.join()
    engine.close()
    facts = engine._facts
    with pytest.raises(ServerAwayError, match=r"no server answers .*; it was not back within 0.1 s"):
        ServerEngine(facts, SMALL_MODEL, wait_s=0.1)
    again: list[ServerProcess] = []
    starting = threading.Timer(0.5, lambda: again.append(ServerProcess(Behaviour(), server.port)))
    starting.start()
    renewed = ServerEngine(facts, SMALL_MODEL, wait_s=300)
    try:
        assert renewed.run(iter([generate(0)]), load(1), GREEDY).completions[0].error is None
    finally:
        renewed.close()
        starting.join()
        again[0].kill()


def test_a_server_that_was_restarted_between_two_windows_is_noticed(attach: Attach) -> None:
    server, engine = attach()
    server.kill()
    again = ServerProcess(Behaviour(), server.port)
    try:
        with pytest.raises(EngineError, match="has ended or has been restarted"):
            engine.run(iter([generate(0)]), load(1), GREEDY)
    finally:
        again.kill()


def test_another_version_or_model_after_a_restart_is_refused(attach: Attach) -> None:
    _, engine = attach()
    other_version = replace(engine._facts, version="0.31.0")
    with pytest.raises(ServerError, match=r"is vllm 0.32.0 now and was vllm 0.31.0: .*--fresh"):
        ServerEngine(other_version, SMALL_MODEL)
    with pytest.raises(ServerError, match="has no model 'other' any more, but"):
        ServerEngine(engine._facts, "other")


def test_a_paused_server_makes_slow_requests_and_no_dead_engine(attach: Attach) -> None:
    server, engine = attach({"request_limit_s": 60.0}, token_s=0.01)
    server.pause()
    going_on = threading.Timer(0.7, server.go_on)
    going_on.start()
    run = engine.run(iter([generate(0)]), load(1), GREEDY)
    going_on.join()
    found = run.completions[0]
    assert found.error is None
    assert found.first_token_ns is not None
    assert found.queued_ns is not None
    assert (found.first_token_ns - found.queued_ns) * 1e-9 > 0.4


@pytest.mark.parametrize(
    ("behaviour", "is_reset", "can_reset"),
    [
        ({"reset_status": 200}, True, True),
        ({"reset_status": 200, "reset_answer": {"success": False}}, False, True),
        ({"reset_status": 404}, False, False),
        ({"owned_by": "sglang", "answers": {}, "reset_status": 200, "reset_answer": {}}, True, True),
        ({"owned_by": "tensorrt_llm", "answers": {}}, False, False),
        ({"owned_by": "llamacpp", "answers": {}}, True, True),
    ],
)
def test_the_prefix_cache_is_reset_where_the_server_offers_it(
    attach: Attach, behaviour: dict[str, Any], is_reset: bool, can_reset: bool
) -> None:
    _, engine = attach(**behaviour)
    assert engine.reset_prefix_cache() is is_reset
    assert engine.can_reset_prefix_cache is can_reset


@pytest.mark.parametrize(
    ("served", "asked", "length"), [(512, None, 512), (512, 128, 128), (512, 4096, 512), (None, None, 2048)]
)
def test_prompts_are_cut_for_the_shortest_known_context(
    attach: Attach, served: int | None, asked: int | None, length: int
) -> None:
    _, engine = attach({"max_model_len": asked}, models=[{"id": SMALL_MODEL, "max_model_len": served}])
    assert engine.max_model_len == length


def test_the_engine_knows_the_server_s_processes_and_never_ends_them(attach: Attach) -> None:
    server, engine = attach()
    assert engine.process_ids == {server.process.pid}
    client_id = engine._require_client().process_id
    engine.close()
    engine.close()
    assert not psutil.pid_exists(client_id)
    assert server.process.poll() is None
    with pytest.raises(EngineError, match="has been closed"):
        engine.run(iter([generate(0)]), load(1), GREEDY)


def test_a_client_that_dies_is_an_engine_error(attach: Attach) -> None:
    _, engine = attach(token_s=0.01)
    killing = threading.Timer(0.2, psutil.Process(engine._require_client().process_id).kill)
    killing.start()
    with pytest.raises(EngineError, match="the client that sends the requests has died"):
        engine.run((generate(number) for number in count()), load(2), GREEDY)
    killing.join()


def test_requests_arrive_at_their_times_whatever_is_in_flight(attach: Attach) -> None:
    """An open loop: a ramp, the window, and the window's arrivals again until its requests have ended."""
    server, engine = attach(token_s=0.02)  # a request lasts for eight gaps and more
    window = tuple(0.02 + 0.04 * number for number in range(25))
    arrivals = Arrivals(ramp=(0.0, 0.1), ramp_s=0.2, window=window, window_s=1.0, follow_s=60.0)
    run = engine.run((generate(number) for number in count()), arrivals, GREEDY)
    in_window = [completion for completion in run.completions if completion.in_window]
    assert len(in_window) == 25
    assert [completion.error for completion in in_window] == [None] * 25
    by_arrival = sorted(run.completions, key=lambda completion: completion.queued_ns or 0)
    due_ns = [run.start_ns + round(arrivals.time_s(number) * 1e9) for number in range(len(by_arrival))]
    assert [completion.queued_ns for completion in by_arrival] == pytest.approx(due_ns, rel=0, abs=10)
    assert [completion.request_id for completion in by_arrival] == [f"r{number}" for number in range(len(by_arrival))]
    assert all((completion.arrival_lateness_s or 0.0) > 0 for completion in by_arrival)
    later = by_arrival[27:]
    assert later, "requests go on arriving until those of the window have ended"
    assert {completion.error for completion in later} <= {None, UNFINISHED}
    assert server.log()["most_in_flight"] > 1


def test_a_window_that_is_not_served_in_time_ends_at_its_limit(attach: Attach) -> None:
    _, engine = attach(token_s=0.02)
    arrivals = Arrivals(ramp=(), ramp_s=0.0, window=(0.0, 0.1), window_s=0.2, follow_s=0.5)
    requests = (generate(number, num_output_tokens=2 if number == 0 else 500) for number in count())
    run = engine.run(requests, arrivals, GREEDY)
    ended = {completion.request_id: completion.error for completion in run.completions if completion.in_window}
    assert ended == {"r0": None, "r1": UNFINISHED}
    assert (run.end_ns - run.start_ns) * 1e-9 >= 0.7


def test_an_iterator_that_ends_ends_the_arrivals(attach: Attach) -> None:
    _, engine = attach()
    arrivals = Arrivals(ramp=(), ramp_s=0.0, window=(0.0, 0.5), window_s=120.0, follow_s=60.0)
    run = engine.run(iter([generate(0)]), arrivals, GREEDY)
    assert [completion.error for completion in run.completions] == [None]


def test_many_requests_withdrawn_at_once_are_no_failure_of_the_server(attach: Attach) -> None:
    _, engine = attach(token_s=0.02)
    requests = [generate(0, num_output_tokens=1), *(generate(number, num_output_tokens=500) for number in range(1, 24))]
    run = engine.run(iter(requests), load(24), GREEDY, deadline_s=2.0)
    assert [completion.error is None for completion in run.completions] == [True] + [False] * 23
