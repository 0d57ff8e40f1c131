"""vLLM's outputs as completions; test_sampling_params.py has the other direction, which needs vLLM."""

from types import SimpleNamespace

import pytest

from runner.inference.vllm.conversion import HandedIn, make_completion
from tests.inference.requests import generate, score
from tests.inference.vllm.stand_in import make_output


def convert(request, outcome, *, offset_ns=0, detokenize=True):
    return make_completion(HandedIn(request, 2, 500_000_000), outcome, offset_ns, detokenize=detokenize)


def test_a_generated_answer():
    completion = convert(generate(0), make_output("r0#2", token_ids=(5, 6), text=" five six"), offset_ns=10)
    assert (completion.request_id, completion.round, completion.sample_id) == ("r0", 2, "s0")
    assert (completion.output_token_ids, completion.num_output_tokens, completion.text) == ((5, 6), 2, " five six")
    assert completion.queued_ns == 500_000_010
    assert completion.scheduled_ns == 1_000_000_010
    assert completion.first_token_ns == 2_000_000_010
    assert completion.last_token_ns == 3_000_000_010
    assert (completion.num_cached_tokens, completion.error) == (0, None)


def test_an_engine_without_a_tokenizer_has_no_text():
    assert convert(generate(0), make_output("r0#2"), detokenize=False).text is None


def test_a_scored_continuation_is_summed_and_greedy_if_every_token_ranks_first():
    flat = SimpleNamespace(logprobs=[-9.0, -1.0, -2.0, -4.0], ranks=[7, 1, 1, 1])  # of the tokens but the first
    completion = convert(score(0, (3, 4, 5, 6, 7), 2), make_output("l0#2", prompt_logprobs=flat))
    assert (completion.loglikelihood, completion.is_greedy) == (-7.0, True)
    flat.ranks[2] = 2
    assert convert(score(0, (3, 4, 5, 6, 7), 2), make_output("l0#2", prompt_logprobs=flat)).is_greedy is False
    assert convert(score(0, (3, 4, 5, 6, 7), 0), make_output("l0#2", prompt_logprobs=flat)).loglikelihood == -16.0


def test_a_reason_in_place_of_an_output_is_an_error():
    completion = convert(generate(0), "interrupted")
    assert (completion.error, completion.queued_ns, completion.scheduled_ns) == ("interrupted", 500_000_000, None)


def test_an_output_that_the_engine_ended_is_an_error():
    completion = convert(generate(0), make_output("r0#2", finish_reason="abort"))
    assert completion.error == "the engine ended it: abort"
    assert completion.scheduled_ns == 1_000_000_000


@pytest.mark.parametrize("metrics", [None, (0.0, 0.0, 0.0)])
def test_times_that_vllm_does_not_tell_are_null(metrics):
    completion = convert(generate(0), make_output("r0#2", metrics=metrics))
    assert completion.queued_ns == 500_000_000
    assert [completion.scheduled_ns, completion.first_token_ns, completion.last_token_ns] == [None] * 3
