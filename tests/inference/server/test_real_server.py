"""vLLM's own server on the CPU: it answers as our engine does, and it is slowed, killed and restarted during a run."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from runner.inference.engine import EngineError
from runner.inference.server.address import parse_address
from runner.inference.server.engine import ServerEngine
from runner.inference.server.look import look_at_server
from runner.inference.vllm.engine import VllmEngine
from tests.engines import ON_ENGINE, SMALL_MODEL, small_environment
from tests.inference.requests import GREEDY, generate, load, score
from tests.inference.server.fake_server import find_free_port, wait_for_port
from tests.inference.tiny_model import prompt

pytestmark = ON_ENGINE
START_LIMIT_S = 600.0


class RealServer:
    """vLLM's server, in a process group of its own."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", SMALL_MODEL]
        command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "512", "--dtype", "float32"]
        command += ["--enforce-eager", "--no-enable-prefix-caching"]
        self.url = f"http://127.0.0.1:{port}"
        with small_environment(), tempfile.NamedTemporaryFile(prefix="server-", suffix=".log") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            try:
                wait_for_port(port, self.process, START_LIMIT_S)
            except AssertionError as error:
                self.kill()
                raise AssertionError(f"{error}: {Path(output.name).read_text()[-3000:]}") from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the front end and the engine core alike."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def port() -> int:
    return find_free_port()


@pytest.fixture(scope="module")
def real_server(port: int) -> Iterator[RealServer]:
    server = RealServer(port)
    yield server
    server.kill()


def test_it_answers_as_our_own_engine_does(real_server: RealServer, small_engine: VllmEngine) -> None:
    facts = look_at_server(parse_address(real_server.url))
    assert facts.owner == "vllm"
    assert facts.keeps_prefixes is False
    attached = ServerEngine(facts, SMALL_MODEL, scores=True)
    try:
        assert (attached.max_model_len, attached.vocab_size) == (small_engine.max_model_len, small_engine.vocab_size)
        assert small_engine.encode is not None
        text = "Who wrote the book that lay on the table?"
        assert attached.encode(text) == small_engine.encode(text)
        assert attached.reset_prefix_cache()
        asked = [
            *(generate(number, num_prompt_tokens=10 + number) for number in range(6)),
            generate(7, ignore_eos=False, num_output_tokens=64),
            generate(8, stop=(" the",), num_output_tokens=64, ignore_eos=False),
            *(score(number, prompt(number, 12 + number), 6) for number in range(4)),
        ]
        # One at a time: in a batch, the last digits depend on the other requests.
        own = small_engine.run(iter(asked), load(1), GREEDY).completions
        served = attached.run(iter(asked), load(1), GREEDY).completions
        for mine, theirs in zip(own, served, strict=True):
            assert theirs.error is None
            same = {"num_cached_tokens": None, "scheduled_ns": None, "first_token_ns": 0, "last_token_ns": 0}
            same |= {"queued_ns": 0, "loglikelihood": None}
            assert replace(theirs, **same) == replace(mine, **same)
            assert (theirs.loglikelihood is None) == (mine.kind == "generate")
            if mine.loglikelihood is not None:
                assert theirs.loglikelihood == pytest.approx(mine.loglikelihood, rel=1e-4)
        sampling = replace(GREEDY, temperature=0.8, seed=3)
        (mine,) = small_engine.run(iter([generate(1)]), load(1), sampling).completions
        (theirs,) = attached.run(iter([generate(1)]), load(1), sampling).completions
        assert theirs.output_token_ids == mine.output_token_ids
        run = attached.run((generate(number) for number in range(40)), load(8), GREEDY)
        assert [completion.error for completion in run.completions] == [None] * 40
    finally:
        attached.close()


def test_slowed_killed_and_restarted_during_a_run(real_server: RealServer, port: int) -> None:
    facts = look_at_server(parse_address(real_server.url))
    attached = ServerEngine(facts, SMALL_MODEL, request_limit_s=2.0)
    try:
        real_server.signal(signal.SIGSTOP)
        going_on = threading.Timer(4.0, lambda: real_server.signal(signal.SIGCONT))
        going_on.start()
        slowed = attached.run(iter([generate(0), *(generate(number) for number in range(1, 9))]), load(1), GREEDY)
        going_on.join()
        assert slowed.completions[0].error == "not finished within the request's limit of 2 s; aborted"
        assert slowed.completions[-1].error is None

        killing = threading.Timer(0.5, real_server.kill)
        killing.start()
        with pytest.raises(EngineError, match="has ended or has been restarted"):
            attached.run((generate(number) for number in count()), load(4), GREEDY)
        killing.join()
    finally:
        attached.close()
    again = RealServer(port)
    try:
        renewed = ServerEngine(facts, SMALL_MODEL, wait_s=START_LIMIT_S, request_limit_s=60.0)
        assert renewed.run(iter([generate(0)]), load(1), GREEDY).completions[0].error is None
        renewed.close()
    finally:
        again.kill()
