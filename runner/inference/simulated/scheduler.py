"""vLLM's scheduling without vLLM: what the next step holds, and which sequences end with it.

Sequences enter; each step's work leaves for the GPU model. `engine.py` keeps the time.
"""

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

from runner.physics.shape import StepWork
from runner.spec.request import Request


@dataclass(kw_only=True, slots=True)
class Sequence:
    """One request in flight."""

    request: Request
    round: int
    queued_ns: int
    ready_ns: int
    """When the front end has handed it to the scheduler."""
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    num_computed_tokens: int = 0
    arrival_lateness_s: float | None = None
    in_window: bool = True


class Scheduler:
    """Continuous batching: all sequences that decode, then chunks of prompts, in order, up to the token budget.

    Sequences that decode all grow by a token a step. So a step needs only their number and the sum of their contexts,
    and a heap knows when each of them ends. The cost of a step does not grow with concurrency.
    """

    def __init__(self, *, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._decoding: list[tuple[int, int, Sequence]] = []
        """Heap of (step at which it ends, order of arrival, sequence)."""
        self._order = itertools.count()
        self._num_steps = 0
        self._num_context_tokens = 0
        """Of all sequences that decode, together."""
        self._chunks: list[tuple[Sequence, int]] = []
        """The prompts in the step that was scheduled last, and how many tokens of each."""

    @property
    def num_unfinished(self) -> int:
        """Sequences that wait or run."""
        return len(self._waiting) + self.num_running

    @property
    def num_running(self) -> int:
        """Sequences that are in a step or were in one."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def next_ready_ns(self) -> int:
        """When the first waiting sequence may run, in ns since the epoch."""
        return self._waiting[0].ready_ns

    def add(self, sequence: Sequence) -> None:
        """Add a sequence behind those that wait."""
        self._waiting.append(sequence)

    def schedule(self, now_ns: int) -> StepWork | None:
        """Return the work of the next step; None if nothing can run yet. `end_step` must follow."""
        num_decode_tokens = len(self._decoding)
        self._schedule_prompts(now_ns, self._max_num_batched_tokens - num_decode_tokens)
        if not self._chunks and not num_decode_tokens:
            return None
        num_prefill_tokens, num_logit_rows = 0, num_decode_tokens
        num_attended_tokens = num_kv_tokens = self._num_context_tokens
        for sequence, num_tokens in self._chunks:
            num_before = sequence.num_computed_tokens
            num_prefill_tokens += num_tokens
            num_attended_tokens += num_tokens * num_before + num_tokens * (num_tokens + 1) // 2
            num_kv_tokens += num_before
            if sequence.request.kind == "loglikelihood":
                num_logit_rows += num_tokens
            elif num_before + num_tokens == len(sequence.request.prompt_token_ids):
                num_logit_rows += 1
        return StepWork(
            num_prefill_tokens=num_prefill_tokens,
            num_decode_tokens=num_decode_tokens,
            num_attended_tokens=num_attended_tokens,
            num_kv_tokens=num_kv_tokens,
            num_logit_rows=num_logit_rows,
        )

    def end_step(self, now_ns: int) -> list[Sequence]:
        """Give every scheduled sequence its tokens; returns the sequences that have ended."""
        self._num_steps += 1
        self._num_context_tokens += len(self._decoding)
        ended = []
        while self._decoding and self._decoding[0][0] <= self._num_steps:
            sequence = heapq.heappop(self._decoding)[2]
            self._num_context_tokens -= len(sequence.request.prompt_token_ids) + sequence.request.max_output_tokens
            ended.append(sequence)
        for sequence, num_tokens in self._chunks:
            sequence.num_computed_tokens += num_tokens
            if sequence.num_computed_tokens == len(sequence.request.prompt_token_ids):
                self._prefilling.remove(sequence)
                sequence.first_token_ns = now_ns
                if sequence.request.max_output_tokens > 1:
                    self._start_decoding(sequence)
                else:
                    ended.append(sequence)
        self._chunks = []
        return ended

    def abort(self) -> list[Sequence]:
        """Drop all sequences; returns those that were in flight."""
        dropped = [sequence for _, _, sequence in self._decoding] + self._prefilling + list(self._waiting)
        self._decoding.clear()
        self._prefilling.clear()
        self._waiting.clear()
        self._num_context_tokens = 0
        return dropped

    def _schedule_prompts(self, now_ns: int, num_tokens_left: int) -> None:
        """Spend the step's remaining tokens on prompts that have begun, then on those that wait."""
        for sequence in self._prefilling:
            num_tokens_left -= self._schedule_chunk(sequence, num_tokens_left)
        while num_tokens_left > 0 and self._waiting and self.num_running < self._max_num_seqs:
            if self._waiting[0].ready_ns > now_ns:
                return
            sequence = self._waiting.popleft()
            sequence.scheduled_ns = now_ns
            self._prefilling.append(sequence)
            num_tokens_left -= self._schedule_chunk(sequence, num_tokens_left)

    def _schedule_chunk(self, sequence: Sequence, num_tokens_left: int) -> int:
        """Schedule as much of a prompt as there is room for; returns its number of tokens."""
        num_tokens = min(len(sequence.request.prompt_token_ids) - sequence.num_computed_tokens, num_tokens_left)
        if num_tokens > 0:
            self._chunks.append((sequence, num_tokens))
        return num_tokens

    def _start_decoding(self, sequence: Sequence) -> None:
        """Let a sequence decode. Its first decode step attends to the prompt and to one token more."""
        request = sequence.request
        self._num_context_tokens += len(request.prompt_token_ids) + 1
        last_step = self._num_steps + request.max_output_tokens - 1
        heapq.heappush(self._decoding, (last_step, next(self._order), sequence))
