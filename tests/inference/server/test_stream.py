"""What a server sent, made into completions."""

import json
from typing import Any

import pytest

from runner.inference.server.stream import Exchange, Received, make_completion, read_events
from runner.spec.request import Completion, Request
from tests.inference.requests import generate
from tests.inference.requests import score as score_request

OFFSET_NS = 1_000_000


def event(**content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def token(text: str, *ids: int) -> bytes:
    return event(choices=[{"text": text, "token_ids": list(ids)}])


def usage(prompt: int, output: int, **more: Any) -> bytes:
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": output} | more)


def complete(received: list[Received], request: Request | None = None) -> Completion:
    asked = request or generate(0, 4, 2, ignore_eos=False)
    return make_completion(Exchange(request=asked, round=3, queued_ns=5, received=received), OFFSET_NS)


def test_an_event_has_the_time_of_its_last_byte() -> None:
    whole = token("a") + token("b") + b"data: [DONE]\n\n"
    cut = whole.index(b"\n\n") + 10
    events = list(read_events([(10, whole[:cut]), (20, whole[cut:])]))
    assert [(time_ns, found["choices"][0]["text"]) for time_ns, found in events] == [(10, "a"), (20, "b")]


def test_lines_that_are_no_events_are_left_out() -> None:
    noise = b": comment\r\nevent: x\r\ndata: [1]\r\ndata: {broken\r\n"
    assert [found for _, found in read_events([(1, noise + event(a=1))])] == [{"a": 1}]


def test_a_generation_has_its_tokens_and_times() -> None:
    found = complete([(100, token("Hel", 7)), (300, token("lo", 8) + usage(5, 2) + b"data: [DONE]\n\n")])
    assert (found.text, found.output_token_ids, found.num_prompt_tokens, found.num_output_tokens) == (
        "Hello",
        (7, 8),
        5,
        2,
    )
    assert (found.queued_ns, found.first_token_ns, found.last_token_ns) == (
        5 + OFFSET_NS,
        100 + OFFSET_NS,
        300 + OFFSET_NS,
    )
    assert (found.round, found.error, found.scheduled_ns, found.num_cached_tokens) == (3, None, None, None)


def test_cached_tokens_and_token_ids_are_known_only_where_they_are_told() -> None:
    told = complete([(1, token("a", 7) + token("b", 8) + usage(4, 2, prompt_tokens_details={"cached_tokens": 3}))])
    assert told.num_cached_tokens == 3
    silent = complete([(1, token("a") + token("b") + usage(4, 2, prompt_tokens_details=None))])
    assert (silent.num_cached_tokens, silent.output_token_ids, silent.text) == (None, (), "ab")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (token("a"), "the stream ended before its token counts came"),
        (usage(4, 0), "the stream ended before its token counts came"),
        (b"", "the stream ended before its token counts came"),
        (token("a") + event(error={"message": "dead"}), "the server broke off: {'message': 'dead'}"),
        (token("a") + event(choices=[], usage={"prompt_tokens": 4}), "the answer cannot be read (KeyError"),
    ],
)
def test_a_stream_that_broke_off_is_an_error(data: bytes, message: str) -> None:
    found = complete([(1, data)])
    assert message in str(found.error)
    assert found.text is None


def test_fewer_tokens_than_the_fixed_number_are_an_error() -> None:
    data = [(1, token("a") + usage(4, 1))]
    assert complete(data).error is None  # the answer ended by itself
    assert "1 tokens came and not 2" in str(complete(data, generate(0, 4, 2)).error)
    assert complete(data, generate(0, 4, 2, stop=("x",))).error is None


def score(token_logprobs: list[float | None], top: list[dict[str, float] | None], **changes: Any) -> Completion:
    content = {
        "choices": [{"logprobs": {"token_logprobs": token_logprobs, "top_logprobs": top}}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1},
    } | changes
    whole = json.dumps(content).encode()
    return complete([(10, whole[:9]), (20, whole[9:])], score_request(0, (1, 2, 3, 4), 2))


def test_a_score_sums_the_continuation_alone() -> None:
    top = [None, {"a": -0.1}, {"a": -0.5, "b": -2.0}, {"a": -0.25}, {"a": -9.0}]
    found = score([None, -1.0, -0.5, -0.25, -9.0], top)  # the last one is generated
    assert (found.loglikelihood, found.is_greedy, found.num_output_tokens, found.text) == (-0.75, True, 0, None)
    assert found.last_token_ns == 20 + OFFSET_NS
    assert score([None, -1.0, -2.0, -0.25, -9.0], top).is_greedy is False


def test_a_score_that_does_not_cover_the_prompt_is_an_error() -> None:
    assert "scored 1 of 2 tokens" in str(score([None, -1.0, -0.5], [None, {}, {"a": 1}]).error)
    wrong = score([None], [None], usage={"prompt_tokens": 5, "completion_tokens": 1})
    assert "counts 5 tokens in a prompt of 4" in str(wrong.error)
    assert "the answer cannot be read" in str(score([None], [None], choices=[]).error)
