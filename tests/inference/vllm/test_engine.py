"""The vLLM engine beyond the contract of all engines (../test_engine.py): tokens, scores, failures, processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count

import psutil
import pytest

from runner.inference.arrivals import draw_arrivals
from runner.inference.engine import EngineError, EngineTimeoutError, Sampling
from runner.inference.vllm import engine as vllm_engine
from runner.inference.vllm.compat import FrontEnd
from runner.inference.vllm.engine import VllmEngine
from runner.spec.load import OpenLoop
from runner.tasks.features.tokens import make_likelihood_request, prompt_likelihood_nats
from tests.engines import SMALL_ARGS, SMALL_MODEL, on_engine
from tests.inference.requests import GREEDY, generate, load, score
from tests.inference.tiny_model import prompt
from tests.inference.vllm.stand_in import StandInEngine


@pytest.fixture(scope="module")
def reference():
    """Log-probabilities of every next token, shape (num_tokens, vocab_size), by transformers."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(SMALL_MODEL, dtype=torch.float32)

    def log_probabilities(token_ids):
        with torch.inference_mode():
            return model(torch.tensor([list(token_ids)])).logits[0].log_softmax(-1)

    return log_probabilities


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SMALL_MODEL)


@on_engine
def test_facts_about_the_model(small_engine, tokenizer):
    assert small_engine.max_model_len == 512
    assert small_engine.vocab_size == 1024
    assert small_engine.encode("the red lamp") == tokenizer.encode("the red lamp")
    assert small_engine.shape.num_layers == 2
    assert small_engine.process_ids
    assert all(psutil.pid_exists(process_id) for process_id in small_engine.process_ids)


@on_engine
def test_log_likelihoods_are_those_of_transformers(small_engine, reference):
    requests = [score(i, prompt(i, 12 + i), 7 + i) for i in range(6)]
    run = small_engine.run(iter(requests), load(4), GREEDY)
    assert len(run.completions) == 6
    by_id = {completion.request_id: completion for completion in run.completions}
    for request in requests:
        expected = reference(request.prompt_token_ids)
        span = range(request.num_context_tokens, len(request.prompt_token_ids))
        total = sum(float(expected[i - 1, request.prompt_token_ids[i]]) for i in span)
        completion = by_id[request.request_id]
        assert completion.loglikelihood == pytest.approx(total, abs=1e-3)
        assert completion.is_greedy is False
        assert completion.num_output_tokens == 0
        assert completion.text is None


@on_engine
def test_the_likelihood_of_a_prompt_is_that_of_transformers(small_engine, reference):
    requests = [generate(i, 10 + 9 * i) for i in range(4)] + [score(9, prompt(9, 30), 22)]
    asked = [make_likelihood_request(request) for request in requests]
    for completion in small_engine.run(iter(asked), load(1), GREEDY).completions:
        (request,) = (r for r in requests if r.sample_id == completion.sample_id)
        token_ids = request.prompt_token_ids[: request.num_context_tokens]
        expected = reference(token_ids)
        terms = [-float(expected[i - 1, token_ids[i]]) for i in range(1, len(token_ids))]
        mean = sum(terms) / len(terms)
        assert prompt_likelihood_nats(completion) == pytest.approx(mean, abs=1e-4)  # float32 on both sides


@on_engine
def test_greedy_continuation_is_generated_and_recognised(small_engine, reference, tokenizer):
    tokens = list(prompt(3, 10))
    for _ in range(5):
        tokens.append(int(reference(tokens)[-1].argmax()))
    [generated] = small_engine.run(iter([generate(3, 10, 5)]), load(1), GREEDY).completions
    assert generated.output_token_ids == tuple(tokens[10:])
    assert generated.text.strip() == tokenizer.decode(tokens[10:], skip_special_tokens=True).strip()
    [scored] = small_engine.run(iter([score(0, tokens, 10)]), load(1), GREEDY).completions
    assert scored.is_greedy is True


@on_engine
def test_stop_string_ends_the_text(small_engine):
    # The model answers this prompt with eight words.
    [free] = small_engine.run(iter([generate(6)]), load(1), GREEDY).completions
    word = free.text.split()[4]
    [stopped] = small_engine.run(iter([generate(6, stop=(word,))]), load(1), GREEDY).completions
    assert stopped.text == free.text[: free.text.index(word)]
    assert stopped.num_output_tokens < free.num_output_tokens


@on_engine
def test_an_unpaced_engine_loses_no_pace(small_engine):
    assert small_engine.run((generate(i) for i in range(6)), load(3), GREEDY).pace_lost_s is None


@on_engine
def test_sampling_is_repeatable(small_engine):
    def draw(seed):
        run = small_engine.run(
            (generate(i) for i in range(4)), load(4), Sampling(temperature=1.0, top_p=0.9, seed=seed)
        )
        return {completion.request_id: completion.output_token_ids for completion in run.completions}

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@on_engine
def test_a_refusal_is_in_vllms_words(small_engine):
    [refused] = small_engine.run(iter([generate(1, num_prompt_tokens=600)]), load(2), GREEDY).completions
    assert "maximum model length of 512" in refused.error


@on_engine
def test_model_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="could not load"):
        VllmEngine(str(tmp_path / "nothing"))


def command_of(process):
    """The command line of a process; empty if it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@on_engine
def test_load_time_limit_ends_the_processes():
    before = psutil.Process().children(recursive=True)
    with pytest.raises(EngineTimeoutError, match="not loaded within 2 s"):
        VllmEngine(SMALL_MODEL, engine_args=SMALL_ARGS, load_timeout_s=2)
    left = [process for process in psutil.Process().children(recursive=True) if process not in before]
    assert [command for command in map(command_of, left) if command and "resource_tracker" not in command] == []


@on_engine
@pytest.mark.ends_engine
def test_killed_engine_is_an_error_and_close_leaves_nothing(shared_engines):
    engine = shared_engines.take_small()
    process_ids = engine.process_ids

    def kill(*_):
        for process_id in process_ids:
            os.kill(process_id, signal.SIGKILL)

    with pytest.raises(EngineError, match="died"):
        engine.run((generate(i, num_output_tokens=230) for i in range(40)), load(4), GREEDY, on_progress=kill)
    with pytest.raises(EngineError, match="died"):
        engine.run(iter([generate(0)]), load(1), GREEDY)
    engine.close()
    assert engine.process_ids == []
    for process_id in process_ids:  # the init process may not have reaped it yet
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE


# Without vLLM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["engine", "compat", "request_loop", "iteration_log", "conversion", "paced.pace"])
def test_importing_loads_neither_vllm_nor_torch(module):
    code = f"import sys, runner.inference.vllm.{module}; print([m for m in ('vllm', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_failure_quotes_what_the_engine_printed(monkeypatch):
    def fail(*_, **__):
        os.write(2, b"no kernel image is available\n")
        raise RuntimeError("engine core initialization failed")

    monkeypatch.setattr(vllm_engine, "open_model", fail)
    with pytest.raises(EngineError, match=r"(?s)could not load any: engine core .*no kernel image is available"):
        VllmEngine("any")


def test_a_core_in_this_process_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setattr(vllm_engine, "open_model", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(EngineError, match=r"^VLLM_ENABLE_V1_MULTIPROCESSING is 0, .*: unset .*, or set it to 1$"):
        VllmEngine("any")


def test_a_closed_engine_says_so_and_has_asked_its_core_to_end(monkeypatch):
    stand_in = StandInEngine()
    monkeypatch.setattr(vllm_engine, "open_model", lambda *_, **__: FrontEnd(stand_in))
    engine = VllmEngine("any")
    assert (engine.max_model_len, engine.vocab_size, engine.encode, engine.shape) == (64, 100, None, None)
    assert engine.reset_prefix_cache() is True
    engine.close()
    assert stand_in.engine_core.shut_down_s == 20.0
    for use in (lambda: engine.run(iter([generate(0)]), load(1), GREEDY), engine.reset_prefix_cache):
        with pytest.raises(EngineError, match="the engine has been closed; open it anew"):
            use()
    engine.close()


@on_engine
def test_requests_arrive_at_a_rate_and_are_followed_to_their_end(small_engine):
    arrivals = draw_arrivals(OpenLoop(request_rate_per_s=20.0), num_round=30, min_window_s=1.5, ramp_s=0.5, seed=4)
    edges_ns = []
    run = small_engine.run(
        (generate(i, 12, 6) for i in count()), arrivals, GREEDY, on_edge=lambda: edges_ns.append(time.time_ns())
    )
    counted = sorted((c for c in run.completions if c.in_window), key=lambda c: c.queued_ns)
    assert len(counted) == 30
    assert all(completion.error is None for completion in counted)
    arrived_s = [(completion.queued_ns - run.start_ns) * 1e-9 - arrivals.ramp_s for completion in counted]
    assert arrived_s == pytest.approx(list(arrivals.window), abs=1e-6)
    # Nobody is handed in early, and a first token comes after the request was handed in.
    for completion in counted:
        assert completion.arrival_lateness_s >= 0
        assert completion.first_token_ns > completion.queued_ns + completion.arrival_lateness_s * 1e9
    opened_s, closed_s = ((edge_ns - run.start_ns) * 1e-9 for edge_ns in edges_ns)
    assert opened_s >= arrivals.ramp_s
    assert closed_s >= arrivals.ramp_s + arrivals.window_s
    assert len(small_engine.run(iter([generate(0, 12, 6)]), load(1), GREEDY).completions) == 1  # nothing was left
