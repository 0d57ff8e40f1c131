import math

import pytest

from runner.spec.request import Completion, Request
from runner.tasks.features.tokens import make_likelihood_request, prompt_likelihood_nats, token_entropy_bits


def request(*ids: int, num_continuation: int = 0) -> Request:
    return Request(
        request_id="qa/1/0",
        sample_id="qa/1",
        kind="loglikelihood" if num_continuation else "generate",
        prompt_token_ids=ids,
        num_context_tokens=len(ids) - num_continuation,
        max_output_tokens=0 if num_continuation else 32,
        stop=("\n",),
    )


def test_entropy_of_tokens_by_hand():
    assert token_entropy_bits(request(5, 5, 7, 9)) == pytest.approx(1.5)
    assert token_entropy_bits(request(1, 2, 3, 4, 5, 6, 7, 8)) == pytest.approx(3)


def test_entropy_is_of_the_prompt_without_a_scored_continuation():
    assert token_entropy_bits(request(5, 5, 7, 9, 11, 12, num_continuation=2)) == pytest.approx(1.5)


def test_one_token_has_no_entropy_and_no_token_none():
    one = token_entropy_bits(request(5))
    assert one == 0
    assert math.copysign(1, one) == 1
    assert token_entropy_bits(request()) is None


def test_the_likelihood_is_asked_of_every_token_but_the_first():
    asked = make_likelihood_request(request(1, 2, 3, 4, num_continuation=1))
    assert asked is not None
    assert (asked.kind, asked.prompt_token_ids, asked.num_context_tokens) == ("loglikelihood", (1, 2, 3), 1)
    assert (asked.max_output_tokens, asked.stop, asked.sample_id) == (0, (), "qa/1")
    assert make_likelihood_request(request(1)) is None


def completion(**changes: object) -> Completion:
    given = {"request_id": "qa/1/0", "sample_id": "qa/1", "kind": "loglikelihood", "num_prompt_tokens": 5}
    return Completion(**(given | changes))  # type: ignore[arg-type]


def test_the_likelihood_is_a_mean_over_the_tokens_that_were_scored():
    assert prompt_likelihood_nats(completion(loglikelihood=-8.0)) == pytest.approx(2.0)
    assert prompt_likelihood_nats(completion(loglikelihood=None)) is None
    assert prompt_likelihood_nats(completion(loglikelihood=-8.0, error="out of memory")) is None


def test_the_likelihood_of_guessing_is_the_logarithm_of_the_vocabulary():
    asked = make_likelihood_request(request(*range(9)))
    assert asked is not None
    scored = completion(num_prompt_tokens=9, loglikelihood=(len(asked.prompt_token_ids) - 1) * math.log(1 / 512))
    assert prompt_likelihood_nats(scored) == pytest.approx(math.log(512))
