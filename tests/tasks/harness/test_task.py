"""Requests of the harness's tasks: lengths, failures, repeats and chat templates."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from lm_eval.api.task import ConfigurableTask

from runner.spec.request import Completion
from runner.tasks.harness.task import HarnessTask
from runner.tasks.own.tasks import load_own_task
from runner.tasks.task import TaskError
from tests.tasks.harness.canned import CHOICES, GENERATIVE, answer, encode, make_config, make_task


def test_scoring_twice_gives_the_same_and_leaves_failed_documents_out(tmp_path):
    task = make_task(make_config(tmp_path, **CHOICES))
    completions = answer(task)
    whole = task.score(completions)
    failed = [
        Completion(
            request_id=c.request_id,
            sample_id=c.sample_id,
            kind=c.kind,
            num_prompt_tokens=c.num_prompt_tokens,
            error="x",
        )
        if c.request_id == "sums/3/1"
        else c
        for c in completions
        if c.sample_id != "sums/5"
    ]
    partial = task.score(failed)
    assert partial.reason == "2 of 40 documents failed and are left out"
    assert set(whole.per_sample) - set(partial.per_sample) == {"sums/3", "sums/5"}
    assert partial.value == pytest.approx(sum(partial.per_sample.values()) / 38)
    assert task.score(completions) == whole
    nothing = task.score([])
    assert (nothing.value, nothing.reason) == (None, "no document has all its answers")


def test_a_round_is_scored_whichever_it_is(tmp_path):
    task = make_task(make_config(tmp_path, **GENERATIVE))
    completions = answer(task)
    assert task.score([replace(completion, round=3) for completion in completions]) == task.score(completions)


def test_a_repeated_request_is_asked_as_often(tmp_path):
    task = make_task(make_config(tmp_path, **GENERATIVE, repeats=2), limit=3)
    requests = task.requests(encode, max_model_len=100, vocab_size=300)
    assert [request.request_id for request in requests[:3]] == ["sums/0/0/0", "sums/0/0/1", "sums/1/0/0"]
    assert task.score(answer(task)).value is not None


def test_output_length_is_the_tasks_the_given_or_fixed(tmp_path):
    def first_request(**arguments):
        task = make_task(make_config(tmp_path, **GENERATIVE), **arguments)
        return task.requests(encode, max_model_len=100, vocab_size=300)[0]

    own = first_request()
    assert (own.max_output_tokens, own.stop, own.ignore_eos) == (9, ("\n", "."), False)
    given = first_request(max_output_tokens=5)
    assert (given.max_output_tokens, given.stop, given.ignore_eos) == (5, ("\n", "."), False)
    fixed = first_request(max_output_tokens=32, fixed_output_length=True)
    assert (fixed.max_output_tokens, fixed.stop, fixed.ignore_eos) == (32, (), True)


def test_an_answer_of_fixed_length_is_cut_at_the_stops_before_scoring():
    task = HarnessTask("tiny_qa", load_own_task("tiny_qa"), limit=1, max_output_tokens=32, fixed_output_length=True)
    right = Completion(
        request_id="tiny_qa/0/0",
        sample_id="tiny_qa/0",
        kind="generate",
        num_prompt_tokens=1,
        text=f" {load_own_task('tiny_qa').dataset['test'][0]['answer']}\nAnd so on. ",
    )
    assert task.score([right]).value == 1.0


@pytest.mark.parametrize("parts", [GENERATIVE, CHOICES])
def test_long_prompts_lose_their_beginning_and_say_so(tmp_path, parts):
    task = make_task(make_config(tmp_path, **parts), limit=4)
    whole = task.requests(encode, max_model_len=100, vocab_size=300)
    cut_short = task.requests(encode, max_model_len=20, vocab_size=300)
    assert not any(request.truncated for request in whole)
    for long, short in zip(whole, cut_short, strict=True):
        room = 20 - max(short.max_output_tokens, 1)
        assert short.prompt_token_ids == long.prompt_token_ids[-room:]
        assert short.truncated == (len(long.prompt_token_ids) > room)
        num_scored = len(long.prompt_token_ids) - long.num_context_tokens
        assert len(short.prompt_token_ids) - short.num_context_tokens == num_scored
    assert any(request.truncated for request in cut_short)


def test_what_cannot_fit_at_all_is_an_error(tmp_path):
    with pytest.raises(TaskError, match="set max_output_tokens lower"):
        make_task(make_config(tmp_path, **GENERATIVE)).requests(encode, max_model_len=9, vocab_size=300)
    with pytest.raises(TaskError, match="no room for a context"):
        make_task(make_config(tmp_path, **CHOICES)).requests(encode, max_model_len=5, vocab_size=300)


def test_a_model_without_a_tokenizer_is_sent_to_the_synthetic_task(tmp_path):
    with pytest.raises(TaskError, match="`synthetic` instead"):
        make_task(make_config(tmp_path, **GENERATIVE)).requests(None, max_model_len=100, vocab_size=300)


def test_unsupported_kinds_say_so(tmp_path):
    rolling = make_config(tmp_path, output_type="loglikelihood_rolling", metric_list=[{"metric": "word_perplexity"}])
    with pytest.raises(TaskError, match="loglikelihood_rolling"):
        make_task(rolling)
    with pytest.raises(TaskError, match="runs code that the model has written"):
        make_task(make_config(tmp_path, **GENERATIVE, unsafe_code=True))
    mixed = ConfigurableTask(config=make_config(tmp_path, **CHOICES))
    make_instances = mixed.construct_requests
    mixed.construct_requests = lambda *args, **kwargs: [
        *make_instances(*args, **kwargs),
        SimpleNamespace(request_type="generate_until", doc_id=0, idx=9),
    ]
    with pytest.raises(TaskError, match="mixes kinds of requests"):
        HarnessTask("mixed", mixed)
    with pytest.raises(TaskError, match="takes no few-shot examples"):
        make_task(make_config(tmp_path, **CHOICES, num_fewshot=0), num_fewshot=2)
    with pytest.raises(TaskError, match="has no prompts with num_fewshot = 1000000: Sample larger than population"):
        make_task(make_config(tmp_path, **CHOICES), num_fewshot=1_000_000)


def test_chance_of_choices_is_one_over_their_number(tmp_path):
    assert make_task(make_config(tmp_path, **CHOICES)).chance == pytest.approx(1 / 3)
    assert make_task(make_config(tmp_path, **CHOICES), quality_metric="mcc").chance is None
    assert make_task(make_config(tmp_path, **GENERATIVE)).chance is None


def test_a_chat_template_wraps_the_prompt(tmp_path):
    def render(messages, *, add_generation_prompt):
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return text + ("<assistant>" if add_generation_prompt else "")

    task = make_task(make_config(tmp_path, **GENERATIVE), num_fewshot=1, limit=1, render_chat=render)
    prompt = task.samples()[0].text
    assert prompt.startswith("<user>Q: ")
    assert prompt.count("<assistant>") == 2
    assert prompt.endswith("Q: 0 + 0?\nA:<assistant>")


@pytest.mark.parametrize("parts", [GENERATIVE, CHOICES])
def test_examples_and_a_chat_template_are_cut_from_the_left_too(tmp_path, parts):
    def render(messages, *, add_generation_prompt):
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        return text + ("<assistant>" if add_generation_prompt else "")

    task = make_task(make_config(tmp_path, **parts), num_fewshot=3, limit=4, render_chat=render)
    whole = task.requests(encode, max_model_len=4000, vocab_size=300)
    cut_short = task.requests(encode, max_model_len=60, vocab_size=300)
    assert not any(request.truncated for request in whole)
    assert all(request.truncated for request in cut_short)
    for long, short in zip(whole, cut_short, strict=True):
        assert len(short.prompt_token_ids) == 60 - max(short.max_output_tokens, 1)
        assert long.prompt_token_ids[-len(short.prompt_token_ids) :] == short.prompt_token_ids
        context = "".join(chr(token_id - 2) for token_id in short.prompt_token_ids[: short.num_context_tokens])
        assert re.search(r"<user>Q: \d+ \+ \d\?\nA:<assistant>$", context)
