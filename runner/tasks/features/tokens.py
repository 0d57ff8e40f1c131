"""Features of prompts in one model's tokens. Token ids enter; numbers for `tables.REQUESTS` leave."""

from dataclasses import replace

import numpy as np

from runner.spec.request import Completion, Request


def token_entropy_bits(request: Request) -> float | None:
    """Return Shannon's entropy of the frequencies of a prompt's token ids, in bits; None for an empty prompt.

    A scored continuation does not belong to the prompt.
    """
    token_ids = _prompt(request)
    if not token_ids:
        return None
    counts = np.unique(np.asarray(token_ids), return_counts=True)[1]
    shares = counts / len(token_ids)
    return abs(float(shares @ np.log2(shares)))


def make_likelihood_request(request: Request) -> Request | None:
    """Return the request that asks for the likelihood of a prompt, of every token but the first.

    The first token has no likelihood, since nothing precedes it. None for a prompt of one token.
    """
    token_ids = _prompt(request)
    if len(token_ids) < 2:
        return None
    return replace(
        request,
        kind="loglikelihood",
        prompt_token_ids=token_ids,
        num_context_tokens=1,
        max_output_tokens=0,
        stop=(),
        ignore_eos=False,
    )


def prompt_likelihood_nats(completion: Completion) -> float | None:
    """Return the mean negative log-likelihood of a prompt's tokens, in nats per token; None if the request failed.

    Args:
        completion: of a request of `make_likelihood_request`.
    """
    if completion.error is not None or completion.loglikelihood is None:
        return None
    return -completion.loglikelihood / (completion.num_prompt_tokens - 1)


def _prompt(request: Request) -> tuple[int, ...]:
    return request.prompt_token_ids[: request.num_context_tokens]
