import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from runner.inference.engine import EngineError, EngineTimeoutError, Sampling
from runner.inference.vllm import engine as vllm_engine
from runner.inference.vllm.engine import VllmEngine
from runner.spec.request import Request
from runner.tasks.features.tokens import make_likelihood_request, prompt_likelihood_nats
from tests.inference.tiny_model import prompt, save_model

pytestmark = pytest.mark.vllm

ENGINE_ARGS = {"max_model_len": 256, "dtype": "float32", "max_num_seqs": 16}
GREEDY = Sampling()
SLEW_NS = 100_000_000
"""By which the host's clock may have been set in the course of a run."""


def generate(index, num_prompt_tokens=20, num_output_tokens=16, *, ignore_eos=True, stop=()):
    return Request(
        request_id=f"r{index}",
        sample_id=f"s{index}",
        kind="generate",
        prompt_token_ids=prompt(index, num_prompt_tokens),
        num_context_tokens=num_prompt_tokens,
        max_output_tokens=num_output_tokens,
        ignore_eos=ignore_eos,
        stop=stop,
    )


def score(index, token_ids, num_context_tokens):
    return Request(
        request_id=f"l{index}",
        sample_id=f"l{index}",
        kind="loglikelihood",
        prompt_token_ids=tuple(token_ids),
        num_context_tokens=num_context_tokens,
        max_output_tokens=0,
    )


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(model_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TORCH_COMPILE_DISABLE", "1")
        engine = VllmEngine(str(model_dir), engine_args=ENGINE_ARGS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(model_dir):
    """Log-probabilities of every next token, shape (num_tokens, vocab_size), by transformers."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    def log_probabilities(token_ids):
        with torch.inference_mode():
            return model(torch.tensor([list(token_ids)])).logits[0].log_softmax(-1)

    return log_probabilities


def test_facts_about_the_model(engine):
    assert engine.max_model_len == 256
    assert engine.vocab_size == 512
    assert engine.encode("w5 w17") == [5, 17]
    assert engine.process_ids
    assert all(psutil.pid_exists(process_id) for process_id in engine.process_ids)


def test_log_likelihoods_are_those_of_transformers(engine, reference):
    requests = [score(i, prompt(i, 12 + i), 7 + i) for i in range(6)]
    run = engine.run(iter(requests), 4, GREEDY)
    assert len(run.completions) == 6
    by_id = {completion.request_id: completion for completion in run.completions}
    for request in requests:
        expected = reference(request.prompt_token_ids)
        span = range(request.num_context_tokens, len(request.prompt_token_ids))
        total = sum(float(expected[i - 1, request.prompt_token_ids[i]]) for i in span)
        completion = by_id[f"{request.request_id}#0"]
        assert completion.loglikelihood == pytest.approx(total, abs=1e-3)
        assert completion.is_greedy is False
        assert completion.num_output_tokens == 0
        assert completion.text is None


def test_surprise_at_a_prompt_is_that_of_transformers(engine, reference):
    requests = [generate(i, 10 + 9 * i) for i in range(4)] + [score(9, prompt(9, 30), 22)]
    asked = [make_likelihood_request(request) for request in requests]
    for completion in engine.run(iter(asked), 1, GREEDY).completions:
        (request,) = (r for r in requests if r.sample_id == completion.sample_id)
        token_ids = request.prompt_token_ids[: request.num_context_tokens]
        expected = reference(token_ids)
        terms = [-float(expected[i - 1, token_ids[i]]) for i in range(1, len(token_ids))]
        assert prompt_likelihood_nats(completion) == pytest.approx(
            sum(terms) / len(terms), abs=1e-4
        )  # float32 on both sides


def test_greedy_continuation_is_generated_and_recognised(engine, reference):
    tokens = list(prompt(3, 10))
    for _ in range(5):
        tokens.append(int(reference(tokens)[-1].argmax()))
    [generated] = engine.run(iter([generate(3, 10, 5)]), 1, GREEDY).completions
    assert generated.output_token_ids == tuple(tokens[10:])
    assert generated.text.split() == [f"w{token}" for token in tokens[10:]]
    [scored] = engine.run(iter([score(0, tokens, 10)]), 1, GREEDY).completions
    assert scored.is_greedy is True


def test_concurrency_is_reached_and_never_exceeded(engine):
    run = engine.run((generate(i % 5, num_output_tokens=4 + i % 7) for i in range(30)), 6, GREEDY)
    assert [completion.error for completion in run.completions] == [None] * 30
    assert max(step.num_running for step in run.steps) == 6
    assert sum(step.num_prefill_tokens for step in run.steps) == 30 * 20
    assert sum(step.num_decode_tokens for step in run.steps) == sum(3 + i % 7 for i in range(30))


def test_requests_are_taken_only_when_a_place_is_free(engine):
    taken_ns = []

    def requests():
        for i in range(12):
            taken_ns.append(time.time_ns())
            yield generate(i, num_output_tokens=4 + i % 5)

    run = engine.run(requests(), 3, GREEDY)
    finished_ns = sorted(completion.last_token_ns for completion in run.completions)
    assert all(taken > finished for taken, finished in zip(taken_ns[3:], finished_ns, strict=False))


def test_ids_tell_the_rounds_apart(engine):
    run = engine.run(iter([generate(0), generate(1), generate(0), generate(0)]), 2, GREEDY)
    assert sorted(completion.request_id for completion in run.completions) == ["r0#0", "r0#1", "r0#2", "r1#0"]
    assert len({c.output_token_ids for c in run.completions if c.sample_id == "s0"}) == 1


def test_lengths_are_fixed_where_the_end_of_text_is_ignored(engine):
    run = engine.run((generate(i, num_output_tokens=33) for i in range(8)), 8, GREEDY)
    assert {completion.num_output_tokens for completion in run.completions} == {33}


def test_stop_string_ends_the_text(engine):
    [free] = engine.run(iter([generate(7)]), 1, GREEDY).completions
    word = free.text.split()[4]
    [stopped] = engine.run(iter([generate(7, stop=(word,))]), 1, GREEDY).completions
    assert stopped.text == free.text[: free.text.index(word)]
    assert stopped.num_output_tokens < free.num_output_tokens


def test_times_are_ordered_within_the_run(engine):
    before_ns = time.time_ns()
    run = engine.run((generate(i) for i in range(6)), 3, GREEDY)
    assert before_ns <= run.start_ns
    assert run.end_ns <= time.time_ns() + SLEW_NS
    for c in run.completions:
        stamps = [run.start_ns, c.queued_ns, c.scheduled_ns, c.first_token_ns, c.last_token_ns, run.end_ns]
        assert stamps == sorted(stamps)
        assert c.num_cached_tokens == 0
    assert run.steps[-1].time_ns == pytest.approx(max(c.last_token_ns for c in run.completions), abs=1e3)
    assert run.pace_lost_s is None


def test_sampling_is_repeatable(engine):
    def draw(seed):
        run = engine.run((generate(i) for i in range(4)), 4, Sampling(temperature=1.0, top_p=0.9, seed=seed))
        return {completion.request_id: completion.output_token_ids for completion in run.completions}

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_refused_request_is_a_completion_with_an_error(engine):
    run = engine.run(iter([generate(0), generate(1, num_prompt_tokens=300), generate(2)]), 2, GREEDY)
    errors = {completion.sample_id: completion.error for completion in run.completions}
    assert errors["s0"] is None
    assert errors["s2"] is None
    assert "maximum model length of 256" in errors["s1"]


def test_deadline_aborts_what_is_in_flight(engine):
    # Of different lengths, so that never all that are in flight end in one step.
    run = engine.run((generate(i, num_output_tokens=150 + 2 * i) for i in range(40)), 4, GREEDY, deadline_s=0.3)
    late = [completion for completion in run.completions if completion.error]
    assert 0 < len(late) <= 4
    assert len(run.completions) < 40
    assert all("limit of 0.3 s" in completion.error for completion in late)
    assert engine.reset_prefix_cache() is True
    assert len(engine.run(iter([generate(0)]), 1, GREEDY).completions) == 1


def test_progress_is_reported_four_times_a_second_at_most(engine):
    seen = []
    run = engine.run(
        (generate(i, num_output_tokens=200) for i in range(8)),
        4,
        GREEDY,
        on_progress=lambda *done: seen.append(done),
    )
    assert 0 < len(seen) <= (run.end_ns - run.start_ns) / 0.25e9
    assert seen == sorted(seen)
    assert seen[-1][1] <= 8 * 200


def test_interrupt_leaves_the_engine_usable(engine):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run((generate(i, num_output_tokens=230) for i in range(40)), 4, GREEDY, on_progress=interrupt)
    run = engine.run(iter([generate(0), generate(1)]), 2, GREEDY)
    assert {completion.request_id for completion in run.completions} == {"r0#0", "r1#0"}
    assert max(step.num_running for step in run.steps) <= 2


def test_unknown_shape_names_those_that_there_are(monkeypatch):
    monkeypatch.setattr(vllm_engine, "shape_names", lambda: ["known"])
    with pytest.raises(EngineError, match=r"no shapes/unknown; there are shapes/known"):
        VllmEngine("shapes/unknown")


def test_failure_quotes_what_the_engine_printed(monkeypatch):
    def fail(*_):
        os.write(2, b"no kernel image is available\n")
        raise RuntimeError("engine core initialization failed")

    monkeypatch.setattr(vllm_engine, "_open", fail)
    with pytest.raises(EngineError, match=r"(?s)could not load any: engine core .*no kernel image is available"):
        VllmEngine("any")


def test_model_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="could not load"):
        VllmEngine(str(tmp_path / "nothing"))


def command_of(process):
    """Empty for what has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_load_time_limit_ends_the_processes(model_dir):
    before = psutil.Process().children(recursive=True)
    with pytest.raises(EngineTimeoutError, match="not loaded within 2 s"):
        VllmEngine(str(model_dir), engine_args=ENGINE_ARGS, load_timeout_s=2)
    left = [process for process in psutil.Process().children(recursive=True) if process not in before]
    assert [command for command in map(command_of, left) if command and "resource_tracker" not in command] == []


def test_killed_engine_is_an_error_and_close_leaves_nothing(engine):
    process_ids = engine.process_ids

    def kill(*_):
        for process_id in process_ids:
            os.kill(process_id, signal.SIGKILL)

    with pytest.raises(EngineError, match="died"):
        engine.run((generate(i, num_output_tokens=230) for i in range(40)), 4, GREEDY, on_progress=kill)
    with pytest.raises(EngineError, match="died"):
        engine.run(iter([generate(0)]), 1, GREEDY)
    engine.close()
    assert engine.process_ids == []
    for process_id in process_ids:  # an orphan may wait for the init process to take note of its end
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
