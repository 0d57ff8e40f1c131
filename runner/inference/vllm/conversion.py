"""From a request to vLLM's sampling parameters, and from vLLM's output to a `Completion`."""

from typing import Any, NamedTuple

from runner.inference.engine import Sampling
from runner.inference.vllm.compat import FlatLogprobs, RequestOutput, final_only
from runner.spec.request import Completion, Request


class HandedIn(NamedTuple):
    """A request that was handed to the engine."""

    request: Request
    round: int
    time_ns: int
    """When, in ns on the host's monotonic clock."""
    arrived_ns: int | None = None
    """When it arrived, by the same clock; None in a closed loop, where a request arrives when it is handed in."""
    in_window: bool = True
    """Whether it arrived in the window."""


def make_sampling_params(request: Request, sampling: Sampling, *, detokenize: bool) -> object:
    """Return vLLM's `SamplingParams` of a request."""
    from vllm import SamplingParams

    if request.kind == "loglikelihood":
        # 0: the prompt's own tokens only, with their ranks. Flat: no object for each token.
        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=final_only(),
        )
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        # A generator for each request is slow, and greedy sampling needs none.
        seed=sampling.seed if sampling.temperature > 0 else None,
        max_tokens=request.max_output_tokens,
        stop=list(request.stop),
        ignore_eos=request.ignore_eos,
        detokenize=detokenize,
        output_kind=final_only(),
    )


def make_completion(
    handed_in: HandedIn, outcome: RequestOutput | str, monotonic_offset_ns: int, *, detokenize: bool
) -> Completion:
    """Return what became of a request.

    Args:
        outcome: vLLM's output, or why there is none.
        monotonic_offset_ns: leads from the host's monotonic clock to the epoch.
        detokenize: whether the output has a text.
    """
    request = handed_in.request
    what: dict[str, Any] = {
        "request_id": request.request_id,
        "round": handed_in.round,
        "sample_id": request.sample_id,
        "kind": request.kind,
        "num_prompt_tokens": len(request.prompt_token_ids),
        "truncated": request.truncated,
        # vLLM's own `queued_ts` is when its core notices a request, between two steps. By that, a client that always
        # has 16 requests out would seem to have 10.
        "queued_ns": (handed_in.arrived_ns or handed_in.time_ns) + monotonic_offset_ns,
    }
    if handed_in.arrived_ns is not None:
        what["arrival_lateness_s"] = (handed_in.time_ns - handed_in.arrived_ns) * 1e-9
        what["in_window"] = handed_in.in_window
    if isinstance(outcome, str):
        return Completion(**what, error=outcome)
    what |= _times(outcome, monotonic_offset_ns)
    output = outcome.outputs[0]
    if output.finish_reason not in ("stop", "length"):
        return Completion(**what, error=f"the engine ended it: {output.finish_reason}")
    what["num_cached_tokens"] = outcome.num_cached_tokens
    if request.kind == "loglikelihood":
        assert outcome.prompt_logprobs is not None
        loglikelihood, is_greedy = _score(request, outcome.prompt_logprobs)
        return Completion(**what, loglikelihood=loglikelihood, is_greedy=is_greedy)
    return Completion(
        **what,
        num_output_tokens=len(output.token_ids),
        output_token_ids=tuple(output.token_ids),
        text=output.text if detokenize else None,
    )


def _times(output: RequestOutput, monotonic_offset_ns: int) -> dict[str, int | None]:
    """Return when a request's first step began and when its first and last token came, in ns since the epoch."""
    metrics = output.metrics
    if metrics is None:
        return {}

    def epoch_ns(timestamp_s: float) -> int | None:
        return round(timestamp_s * 1e9) + monotonic_offset_ns if timestamp_s else None

    return {
        "scheduled_ns": epoch_ns(metrics.scheduled_ts),
        "first_token_ns": epoch_ns(metrics.first_token_ts),
        "last_token_ns": epoch_ns(metrics.last_token_ts),
    }


def _score(request: Request, prompt_logprobs: FlatLogprobs) -> tuple[float, bool]:
    """Return the sum of the continuation's log-probabilities, and whether each of its tokens ranks first."""
    # The first token of a prompt has no entry.
    first = max(request.num_context_tokens, 1) - 1
    return sum(prompt_logprobs.logprobs[first:]), all(rank == 1 for rank in prompt_logprobs.ranks[first:])
