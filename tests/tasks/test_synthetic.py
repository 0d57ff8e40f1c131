import pytest

from runner.tasks.synthetic import SyntheticTask
from runner.tasks.task import TaskError


def make_task(**changes):
    return SyntheticTask(**{"num_prompt_tokens": 12, "num_output_tokens": 5, "num_requests": 40, "seed": 3, **changes})


def test_lengths_are_exact_and_ids_lie_in_the_vocabulary():
    requests = make_task().requests(None, max_model_len=17, vocab_size=100)
    assert len(requests) == 40
    for request in requests:
        assert len(request.prompt_token_ids) == request.num_context_tokens == 12
        assert (request.max_output_tokens, request.ignore_eos, request.kind) == (5, True, "generate")
        assert all(16 <= token_id < 100 for token_id in request.prompt_token_ids)


def test_no_two_prompts_share_a_prefix():
    requests = make_task().requests(None, max_model_len=100, vocab_size=100)
    assert len({request.prompt_token_ids[0] for request in requests}) == 40
    assert len({request.request_id for request in requests}) == 40


def test_same_seed_same_prompts_other_seed_other_prompts():
    def prompts(seed):
        return [r.prompt_token_ids for r in make_task(seed=seed).requests(None, max_model_len=100, vocab_size=1000)]

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)


def test_lengths_that_do_not_fit_are_an_error_and_not_a_cut():
    with pytest.raises(TaskError, match=r"more than the model's 16.*max_model_len"):
        make_task().requests(None, max_model_len=16, vocab_size=100)


def test_quality_is_unknown_with_a_reason():
    quality = make_task().score([])
    assert quality.value is None
    assert "no right answer" in quality.reason
