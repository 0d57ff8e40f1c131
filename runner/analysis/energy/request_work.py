"""What each request had in each step: pieces of its prompt, then a token a step; and what a step's parts cost.

vLLM tells what a step held, not whose it was. But prompts are computed first come, first served, every request that
decodes is in every step, and a request's first and last token leave with a step: so whose it was follows.
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
"""Where the engine does not tell its steps, the window is cut into pieces of one power sample each."""


@dataclass(frozen=True, kw_only=True)
class RequestWork:
    """Requests and steps of one window. Requests are those that ended well, in the order in which they were queued."""

    places: list[int]
    """[num_requests] where each stands among the measurement's completions."""
    queued_ns: Ints
    last_ns: Ints
    step_ns: Ints
    """[num_steps] ends of the steps, ascending."""
    step_prefill_tokens: Floats
    step_decode_tokens: Floats
    step_num_requests: Floats
    chunk_request: Ints
    """[num_chunks] the pieces into which steps cut prompts: whose,"""
    chunk_step: Ints
    """in which step,"""
    chunk_tokens: Floats
    """how much,"""
    chunk_before: Floats
    """after how much context,"""
    chunk_logit_rows: Floats
    """and with how many rows of logits."""
    decode_first_step: Ints
    """[num_requests] the steps from here"""
    decode_last_step: Ints
    """until before here hold its decoding,"""
    decode_tokens_per_step: Floats
    """so much of it each: 1, but for requests that were put off or that guess ahead,"""
    decode_context: Floats
    """with this context in the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCosts:
    """Roofline seconds of a step's parts: arithmetic at the GPU's full rate, traffic at its full bandwidth.

    They say in which proportion a step's joules are handed out, and nothing of how long it lasted.
    """

    fixed_s: float
    """Weights read, and the host's part."""
    token_s: float
    """Through the layers, its KV entries written."""
    logit_row_s: float
    attended_token_s: float
    """Arithmetic of attention, for each pair of a token and one that it attends to."""
    kv_token_s: float
    """KV entries of one token of context read."""
    decode_host_s: float
    """Of the host, for each request that decodes."""

    @property
    def context_s(self) -> float:
        """By which each token of context makes a decoded token dearer."""
        return self.attended_token_s + self.kv_token_s

    def prefill_s(self, tokens: Floats, before: Floats | float, logit_rows: Floats | float) -> Floats:
        """Return the seconds of pieces of prompts."""
        attended = tokens * before + tokens * (tokens + 1) / 2
        return np.asarray(
            self.token_s * tokens
            + self.logit_row_s * logit_rows
            + self.attended_token_s * attended
            + self.kv_token_s * before
        )

    def decode_s(self, context: Floats | float) -> Floats:
        """Return the seconds of one decoded token after so much context."""
        return np.asarray(self.token_s + self.logit_row_s + self.decode_host_s + self.context_s * context)


def find_costs(shape: ModelShape | None, gpu_name: str) -> StepCosts:
    """Return the costs of a shape's steps on a GPU, the fitted H200's where the GPU is not among the fitted ones.

    Without a shape every token costs the same and nothing is fixed: energy goes by tokens.
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
    """Return what each request of a window had in each step."""
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
    # One that decodes between two steps only (times that do not fit the steps) is counted to the step it ended with.
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
        decode_last_step=end,
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
    """Return (end, prefill tokens, decode tokens, requests) of each step, [num_steps].

    Without steps, even pieces of the window stand in: a prompt is computed evenly until its first token.
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

    Each prompt ends in the step that made its first token, at the latest where the next one begins: so prompts of
    failed requests leave a gap in the stream and move nobody else's.

    Args:
        num_tokens: [num_requests] of each prompt, in order of their first tokens.
        last_step: [num_requests] the step with which each first token left.
        step_tokens: [num_steps] prompt tokens of each step.
    Returns: (request, step, tokens, tokens of this prompt until its end) of each piece, [num_chunks].
    """
    if len(num_tokens) == 0:
        nobody = np.zeros(0, dtype=np.int64)
        return nobody, nobody, np.zeros(0), np.zeros(0)
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
