"""The loop beside a vLLM engine: a constant number of requests in flight, and what became of each.

For a small model this loop, not the GPU, limits throughput. It does the least that it can for each output and leaves
the conversion to `Completion`s until after the window.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from typing import Any, NamedTuple

from runner.inference.engine import Sampling
from runner.inference.vllm.iteration_log import IterationLog
from runner.spec.load import Load
from runner.spec.request import Completion, Request

_PROGRESS_PERIOD_S = 0.25
_CHECK_PERIOD_S = 1.0


class _HandedIn(NamedTuple):
    """A request that the engine was given."""

    request: Request
    round: int
    time_ns: int
    """When, on the host's monotonic clock."""


class RequestLoop:
    """One run over a vLLM `LLMEngine`. Requests that are handed in together are so within one `admission()`."""

    def __init__(
        self,
        llm_engine: Any,
        log: IterationLog,
        sampling: Sampling,
        *,
        detokenize: bool,
        request_limit_s: float | None = None,
        admission: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._llm_engine = llm_engine
        self._log = log
        self._sampling = sampling
        self._detokenize = detokenize
        self._request_limit_s = request_limit_s
        self._admission = admission
        self._rounds: Counter[str] = Counter()
        self._in_flight: dict[str, _HandedIn] = {}
        self._ended: list[tuple[_HandedIn, Any]] = []
        self._generates = False

    def run(
        self,
        requests: Iterator[Request],
        load: Load,
        *,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Hand in requests as the load says until the iterator ends; abort what is left after `deadline_s`."""
        in_flight, ended, concurrency = self._in_flight, self._ended, load.concurrency
        start = time.monotonic()
        deadline = float("inf") if deadline_s is None else start + deadline_s
        next_report = float("inf") if on_progress is None else start + _PROGRESS_PERIOD_S
        next_check = float("inf") if self._request_limit_s is None else start + _CHECK_PERIOD_S
        self._fill(requests, concurrency)
        while in_flight:
            for output in self._llm_engine.step():
                if output.finished and output.request_id in in_flight:
                    ended.append((in_flight.pop(output.request_id), output))
            now = time.monotonic()
            if now > deadline:
                self.abort(f"not finished within the limit of {deadline_s:g} s; aborted")
                return
            if now >= next_check:
                next_check = now + _CHECK_PERIOD_S
                self._abort_overdue()
            if len(in_flight) < concurrency:
                self._fill(requests, concurrency)
            if on_progress is not None and now >= next_report:
                next_report = now + _PROGRESS_PERIOD_S
                on_progress(len(ended), self._log.num_outputs if self._generates else 0)

    def abort(self, reason: str) -> None:
        """Withdraw what is in flight and wait until the engine's core is rid of it; nothing to do for a dead one."""
        from vllm.v1.engine.exceptions import EngineDeadError

        with suppress(EngineDeadError):
            self._llm_engine.abort_request(list(self._in_flight))
            self._llm_engine.is_sleeping()  # any question will do: it is answered after the step in progress
        self._ended += [(handed_in, reason) for handed_in in self._in_flight.values()]
        self._in_flight.clear()

    def _abort_overdue(self) -> None:
        """Withdraw the requests that have been in flight for longer than one may be."""
        if self._request_limit_s is None:
            return
        oldest_ns = time.monotonic_ns() - round(self._request_limit_s * 1e9)
        overdue = [request_id for request_id, handed_in in self._in_flight.items() if handed_in.time_ns < oldest_ns]
        if overdue:
            self._llm_engine.abort_request(overdue)
            reason = f"not finished within the request's limit of {self._request_limit_s:g} s; aborted"
            self._ended += [(self._in_flight.pop(request_id), reason) for request_id in overdue]

    def completions(self, monotonic_offset_ns: int) -> list[Completion]:
        """Return what ended, in that order; the offset leads from the host's monotonic clock to the epoch."""
        return [
            _completion(
                handed_in,
                outcome,
                _times(outcome, handed_in.time_ns, monotonic_offset_ns),
                detokenize=self._detokenize,
            )
            for handed_in, outcome in self._ended
        ]

    def _fill(self, requests: Iterator[Request], concurrency: int) -> None:
        """Hand in requests until `concurrency` are in flight; those that vLLM refuses have ended."""
        while waiting := list(islice(requests, concurrency - len(self._in_flight))):
            with self._admission():
                for request in waiting:
                    self._hand_in(request)

    def _hand_in(self, request: Request) -> None:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        round_ = self._rounds[request.request_id]
        self._rounds[request.request_id] += 1
        request_id = f"{request.request_id}#{round_}"  # vLLM needs ids of its own for the rounds
        self._generates = self._generates or request.kind == "generate"
        handed_in = _HandedIn(request, round_, time.monotonic_ns())
        try:
            prompt = tokens_input(list(request.prompt_token_ids))
            params = sampling_params(request, self._sampling, detokenize=self._detokenize)
            handed_in = _HandedIn(request, round_, time.monotonic_ns())
            self._in_flight[request_id] = handed_in
            self._llm_engine.add_request(request_id, prompt, params)
        except EngineDeadError:
            raise
        except Exception as error:
            # vLLM refuses a request (too long, a token id out of range ...) with errors of several kinds.
            self._in_flight.pop(request_id, None)
            self._ended.append((handed_in, f"refused: {error}"))


def sampling_params(request: Request, sampling: Sampling, *, detokenize: bool) -> Any:
    """Return vLLM's `SamplingParams` of a request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    if request.kind == "loglikelihood":
        # 0: the prompt's own tokens only, with their ranks. Flat: no object a token.
        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed if sampling.temperature > 0 else None,  # a generator a request is slow; greedy needs none
        max_tokens=request.max_output_tokens,
        stop=list(request.stop),
        ignore_eos=request.ignore_eos,
        detokenize=detokenize,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _times(outcome: Any, handed_in_ns: int, monotonic_offset_ns: int) -> dict[str, int | None]:
    """Return a request's times, ns since the epoch.

    It is queued when it is handed in. vLLM's own `queued_ts` is when its core takes notice, which it does only between
    two steps: by that, a client that always has 16 requests out would seem to have 10.
    """
    queued_ns = handed_in_ns + monotonic_offset_ns
    metrics = getattr(outcome, "metrics", None)
    if metrics is None:
        return {"queued_ns": queued_ns}

    def epoch_ns(timestamp_s: float) -> int | None:
        return round(timestamp_s * 1e9) + monotonic_offset_ns if timestamp_s else None

    return {
        "queued_ns": queued_ns,
        "scheduled_ns": epoch_ns(metrics.scheduled_ts),
        "first_token_ns": epoch_ns(metrics.first_token_ts),
        "last_token_ns": epoch_ns(metrics.last_token_ts),
    }


def _completion(handed_in: _HandedIn, outcome: Any, times: dict[str, int | None], *, detokenize: bool) -> Completion:
    """Convert one outcome: vLLM's `RequestOutput`, or the reason why there is none."""
    request = handed_in.request
    what: dict[str, Any] = {
        "request_id": request.request_id,
        "round": handed_in.round,
        "sample_id": request.sample_id,
        "kind": request.kind,
        "num_prompt_tokens": len(request.prompt_token_ids),
        "truncated": request.truncated,
        **times,
    }
    if isinstance(outcome, str):
        return Completion(**what, error=outcome)
    output = outcome.outputs[0]
    if output.finish_reason not in ("stop", "length"):
        return Completion(**what, error=f"the engine ended it: {output.finish_reason}")
    what["num_cached_tokens"] = outcome.num_cached_tokens
    if request.kind == "loglikelihood":
        loglikelihood, is_greedy = _score(request, outcome.prompt_logprobs)
        return Completion(**what, loglikelihood=loglikelihood, is_greedy=is_greedy)
    return Completion(
        **what,
        num_output_tokens=len(output.token_ids),
        output_token_ids=tuple(output.token_ids),
        text=output.text if detokenize else None,
    )


def _score(request: Request, prompt_logprobs: Any) -> tuple[float, bool]:
    """Sum the continuation's log-probabilities; greedy if every one of its tokens ranks first.

    `prompt_logprobs` is flat: one entry a prompt token but for the first, which nothing precedes.
    """
    first = max(request.num_context_tokens, 1) - 1
    return sum(prompt_logprobs.logprobs[first:]), all(rank == 1 for rank in prompt_logprobs.ranks[first:])
