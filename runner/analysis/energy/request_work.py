"""What each request computed in each step, and what the parts of a step cost.

A `Measurement` enters; `RequestWork` and `StepCosts` leave. Next: `attribution.py`.

vLLM tells how many tokens a step held, but not which requests they belong to. That follows from three facts. Prompts
are computed in the order of arrival. Every request that decodes is in every step. A request's first and last token
leave with a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.physics.gpu_model import find_gpu_model, load_gpu_model
from runner.physics.shape import ModelShape, StepWork
from runner.results.measurement import Measurement
from runner.spec.request import Completion

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ASSUMED_STEP_NS = 20_000_000
"""Where the engine does not tell its steps, the window is cut into pieces as long as the time between power samples."""


@dataclass(frozen=True, kw_only=True)
class RequestWork:
    """Requests and steps of one window. The requests are those that ended well, in the order they were queued."""

    places: list[int]
    """[num_requests] index of each among the measurement's completions."""
    queued_ns: Ints
    last_ns: Ints
    step_ns: Ints
    """[num_steps] end of each step, ascending."""
    step_prefill_tokens: Floats
    step_decode_tokens: Floats
    step_num_requests: Floats
    chunk_request: Ints
    """[num_chunks] the request of each chunk. Steps cut prompts into chunks."""
    chunk_step: Ints
    """[num_chunks] the step that computed the chunk."""
    chunk_tokens: Floats
    """[num_chunks] tokens in the chunk."""
    chunk_before: Floats
    """[num_chunks] tokens of context before the chunk."""
    chunk_logit_rows: Floats
    """[num_chunks] rows of logits that the chunk computes."""
    decode_first_step: Ints
    """[num_requests] the first step in which the request decodes."""
    decode_end_step: Ints
    """[num_requests] the step after the last one in which the request decodes."""
    decode_tokens_per_step: Floats
    """[num_requests] tokens decoded in each of them: 1, unless the request was preempted or decodes speculatively."""
    decode_context: Floats
    """[num_requests] tokens of context in the first of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCosts:
    """Roofline seconds of a step's parts: arithmetic at the GPU's full rate, traffic at its full bandwidth.

    They set the proportions in which a step's joules are handed out. They do not say how long the step lasted.
    """

    fixed_s: float
    """Reading the weights, and the host's fixed part."""
    token_s: float
    """One token through all layers, with its KV entries written."""
    logit_row_s: float
    attended_token_s: float
    """Arithmetic of attention, for each pair of a token and one that it attends to."""
    kv_token_s: float
    """Reading the KV entries of one token of context."""
    decode_host_s: float
    """The host's part for each request that decodes."""

    @property
    def context_s(self) -> float:
        """What each token of context adds to a decoded token."""
        return self.attended_token_s + self.kv_token_s

    def prefill_s(self, tokens: Floats, before: Floats | float, logit_rows: Floats | float) -> Floats:
        """Return the seconds of some chunks of prompts."""
        attended = tokens * before + tokens * (tokens + 1) / 2
        return np.asarray(
            self.token_s * tokens
            + self.logit_row_s * logit_rows
            + self.attended_token_s * attended
            + self.kv_token_s * before
        )

    def decode_s(self, context: Floats | float) -> Floats:
        """Return the seconds of one decoded token after `context` tokens."""
        return np.asarray(self.token_s + self.logit_row_s + self.decode_host_s + self.context_s * context)


def find_costs(shape: ModelShape | None, gpu_name: str) -> StepCosts:
    """Return the costs of a shape's steps on a GPU. A GPU that was not fitted has the costs of the fitted H200.

    Without a shape every token costs the same and nothing is fixed, so that energy follows the tokens.
    """
    if shape is None:
        return StepCosts(
            fixed_s=0.0, token_s=1.0, logit_row_s=0.0, attended_token_s=0.0, kv_token_s=0.0, decode_host_s=0.0
        )
    gpu_model = load_gpu_model(find_gpu_model(gpu_name))

    def flops_s(*, tokens: int = 0, attended: int = 0, logit_rows: int = 0) -> float:
        work = StepWork(
            num_prefill_tokens=tokens,
            num_decode_tokens=0,
            num_attended_tokens=attended,
            num_kv_tokens=0,
            num_logit_rows=logit_rows,
        )
        return shape.flops(work) / gpu_model.flops_per_s

    kv_token_s = shape.kv_bytes_per_token / gpu_model.bytes_per_s
    num_weights = shape.num_layer_parameters + shape.num_head_parameters
    return StepCosts(
        fixed_s=num_weights * shape.bytes_per_weight / gpu_model.bytes_per_s
        + gpu_model.host_s_per_step
        + gpu_model.host_s_per_layer * shape.num_layers,
        token_s=flops_s(tokens=1) + kv_token_s,
        logit_row_s=flops_s(logit_rows=1),
        attended_token_s=flops_s(attended=1),
        kv_token_s=kv_token_s,
        decode_host_s=gpu_model.host_s_per_decode_token,
    )


def find_work(measurement: Measurement) -> RequestWork:
    """Return what each request of a window computed in each step."""
    completions = measurement.completions
    places = [place for place, completion in enumerate(completions) if _is_timed(completion)]
    places.sort(key=lambda place: completions[place].queued_ns or 0)
    timed = [completions[place] for place in places]
    queued_ns, first_ns, last_ns, scheduled_ns = (
        _column(timed, name) for name in ("queued_ns", "first_token_ns", "last_token_ns", "scheduled_ns")
    )
    scheduled_ns = np.where(scheduled_ns > 0, scheduled_ns, queued_ns)
    num_prompt, num_cached = _column(timed, "num_prompt_tokens"), _column(timed, "num_cached_tokens")
    num_computed = np.maximum(num_prompt - num_cached, 0).astype(np.float64)
    scores_prompt = np.array([completion.kind == "loglikelihood" for completion in timed], dtype=bool)
    num_decoded = np.maximum(_column(timed, "num_output_tokens") - 1, 0)

    step_ns, *counts = _steps(measurement, scheduled_ns, first_ns, num_computed)
    first_step = np.searchsorted(step_ns, first_ns)
    last_step = np.searchsorted(step_ns, last_ns)
    begin, end = np.minimum(first_step + 1, len(step_ns)), np.minimum(last_step + 1, len(step_ns))
    # A request whose times do not fit the steps may decode between two steps. It counts for the step it ended with.
    begin = np.where((num_decoded > 0) & (end <= begin), np.maximum(end - 1, 0), begin)
    end = np.where(num_decoded > 0, end, begin)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_step = np.where(end > begin, num_decoded / (end - begin), 0.0)

    stream = np.lexsort((queued_ns, scheduled_ns, first_ns))
    chunk_request, chunk_step, chunk_tokens, chunk_end = _cut_prompts(
        num_computed[stream], np.minimum(first_step[stream], len(step_ns) - 1), counts[0]
    )
    chunk_request = stream[chunk_request]
    is_last = chunk_end >= num_computed[chunk_request] - 0.5
    return RequestWork(
        places=places,
        queued_ns=queued_ns,
        last_ns=last_ns,
        step_ns=step_ns,
        step_prefill_tokens=counts[0],
        step_decode_tokens=counts[1],
        step_num_requests=counts[2],
        chunk_request=chunk_request,
        chunk_step=chunk_step,
        chunk_tokens=chunk_tokens,
        chunk_before=num_cached[chunk_request] + chunk_end - chunk_tokens,
        chunk_logit_rows=np.where(scores_prompt[chunk_request], chunk_tokens, is_last.astype(np.float64)),
        decode_first_step=begin,
        decode_end_step=end,
        decode_tokens_per_step=per_step,
        decode_context=(num_prompt + 1).astype(np.float64),
    )


def _is_timed(completion: Completion) -> bool:
    times = (completion.queued_ns, completion.first_token_ns, completion.last_token_ns)
    return completion.error is None and None not in times


def _column(completions: Sequence[Completion], name: str) -> Ints:
    return np.array([getattr(completion, name) or 0 for completion in completions], dtype=np.int64)


def _steps(
    measurement: Measurement, scheduled_ns: Ints, first_ns: Ints, num_computed: Floats
) -> tuple[Ints, Floats, Floats, Floats]:
    """Return (end, prefill tokens, decode tokens, requests) of each step, [num_steps] each.

    If the engine does not tell its steps, even pieces of the window take their place. Then a prompt is taken to be
    computed evenly from when it was scheduled until its first token.
    """
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    steps = [step for step in measurement.steps if start_ns < step.time_ns <= end_ns]
    if steps:
        rows = [(step.num_prefill_tokens, step.num_decode_tokens, step.num_running) for step in steps]
        prefill, decode, running = np.array(rows, dtype=np.float64).T
        return np.array([step.time_ns for step in steps], dtype=np.int64), prefill, decode, running
    num_pieces = max(-(-(end_ns - start_ns) // ASSUMED_STEP_NS), 1)
    step_ns = start_ns + np.linspace(0, end_ns - start_ns, num_pieces + 1).astype(np.int64)[1:]
    begin, end = np.searchsorted(step_ns[:-1], scheduled_ns), np.searchsorted(step_ns[:-1], first_ns) + 1
    change = np.zeros(num_pieces + 1)
    np.add.at(change, begin, num_computed / (end - begin))
    np.add.at(change, end, -num_computed / (end - begin))
    nothing = np.zeros(num_pieces)
    return step_ns, np.maximum(np.cumsum(change[:-1]), 0.0), nothing, nothing


def _cut_prompts(num_tokens: Floats, last_step: Ints, step_tokens: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Lay prompts, in order, on the stream of prompt tokens that the steps computed, and cut it where steps end.

    Each prompt ends in the step that made its first token, and at the latest where the next prompt begins. So the
    prompts of failed requests leave gaps in the stream, and the other prompts stay in their steps.

    Args:
        num_tokens: [num_requests] tokens of each prompt, in order of their first tokens.
        last_step: [num_requests] the step with which each first token left.
        step_tokens: [num_steps] prompt tokens of each step.
    Returns: (request, step, tokens, tokens of its prompt up to its end) of each chunk, [num_chunks] each.
    """
    if len(num_tokens) == 0:
        no_requests = np.zeros(0, dtype=np.int64)
        return no_requests, no_requests, np.zeros(0), np.zeros(0)
    step_ends = np.cumsum(step_tokens)
    totals = np.cumsum(num_tokens)
    ends = totals + np.minimum.accumulate((step_ends[last_step] - totals)[::-1])[::-1]
    starts = ends - num_tokens
    bounds = np.unique(np.concatenate((starts, ends, step_ends)))
    bounds = bounds[bounds >= 0]
    middles = (bounds[1:] + bounds[:-1]) / 2
    request = np.searchsorted(ends, middles, side="left").astype(np.int64)
    is_known = (request < len(ends)) & (middles < step_ends[-1])
    is_known &= middles > starts[np.minimum(request, len(ends) - 1)]
    request, middles, bounds = request[is_known], middles[is_known], bounds[1:][is_known]
    step = np.searchsorted(step_ends, middles, side="left").astype(np.int64)
    tokens = 2 * (bounds - middles)
    return request, step, tokens, bounds - starts[request]
