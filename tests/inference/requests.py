"""Requests of tests, made of token ids that every model of the tests knows."""

from runner.inference.engine import Sampling
from runner.spec.load import ClosedLoop
from runner.spec.request import Request
from tests.inference.tiny_model import prompt

GREEDY = Sampling()


def load(concurrency: int) -> ClosedLoop:
    return ClosedLoop(concurrency=concurrency)


def generate(
    index: int,
    num_prompt_tokens: int = 20,
    num_output_tokens: int = 16,
    *,
    ignore_eos: bool = True,
    stop: tuple[str, ...] = (),
) -> Request:
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


def score(index: int, token_ids: tuple[int, ...] | list[int], num_context_tokens: int) -> Request:
    return Request(
        request_id=f"l{index}",
        sample_id=f"l{index}",
        kind="loglikelihood",
        prompt_token_ids=tuple(token_ids),
        num_context_tokens=num_context_tokens,
        max_output_tokens=0,
    )
