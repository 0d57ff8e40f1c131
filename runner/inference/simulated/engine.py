"""An engine in virtual time: vLLM's scheduling over the GPU model, for plans, scale tests and fault tests.

Requests enter; their times and the GPU's activity leave. There are no tokens and no texts, so quality is None. A trial
of minutes runs in milliseconds, by the same step times and powers that pace the real engine on the simulated GPU.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

from runner.inference.admission import Admission
from runner.inference.engine import EngineError, EngineRun, Sampling
from runner.inference.simulated.scheduler import Scheduler, Sequence
from runner.physics.gpu_model import GpuModel
from runner.physics.gpu_state import Activity, GpuState
from runner.physics.shape import ModelShape, StepWork
from runner.spec.load import Load
from runner.spec.request import Completion, Request, Step
from runner.timebase import VirtualTime

_PROGRESS_PERIOD_NS = 250_000_000
_ADVANCE_PERIOD_NS = 100_000_000
"""How far steps may run ahead of the time source. A change of the operating point takes effect this much later."""


class SimulatedEngine:
    """One loaded model on one simulated GPU; implements `Engine`.

    Every request runs to its `max_output_tokens`: without tokens there is no end of text and no stop string. The engine
    keeps no account of KV memory, so it never preempts a request.

    Args:
        shape: the model's shape, or the modelled shape in its place.
        gpu_model: says how long each step lasts and what it draws.
        state: holds the operating point and takes the GPU's activity.
        time_source: is advanced over every step.
        max_num_seqs: most requests in one step, as in vLLM.
        max_num_batched_tokens: most tokens in one step, as in vLLM.
        max_model_len: longest prompt and output together, in tokens.
        vocab_size: None takes the shape's.

    Raises: EngineError: the weights do not fit the GPU's memory.
    """

    def __init__(
        self,
        *,
        shape: ModelShape,
        gpu_model: GpuModel,
        state: GpuState,
        time_source: VirtualTime,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        max_model_len: int = 4096,
        vocab_size: int | None = None,
    ) -> None:
        if shape.weight_bytes > gpu_model.memory_total_bytes:
            raise EngineError(
                f"{shape.name} takes {shape.weight_bytes / 2**30:.0f} GiB and {gpu_model.name} has "
                f"{gpu_model.memory_total_bytes / 2**30:.0f} GiB: choose a smaller shape"
            )
        self.shape = shape
        self.gpu_model = gpu_model
        self.state = state
        self.time_source = time_source
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self._max_model_len = max_model_len
        self._vocab_size = vocab_size or shape.vocab_size
        self._closed = False

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        return self._max_model_len

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model would know."""
        return self._vocab_size

    @property
    def encode(self) -> Callable[[str], list[int]]:
        """Text to invented token ids, a hash for each piece of up to six letters: about as many as in English."""
        return lambda text: [zlib.crc32(piece.encode()) % self._vocab_size for piece in _PIECE.findall(text)]

    def run(
        self,
        requests: Iterator[Request],
        load: Load,
        sampling: Sampling,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EngineRun:
        """Hand in requests as the load says until the iterator ends, then drain; `sampling` changes nothing."""
        if self._closed:
            raise EngineError("the engine is closed; open another")
        return _Run(self, requests, load, deadline_s, on_progress).run()

    def reset_prefix_cache(self) -> bool:
        """Nothing is cached, so there is nothing to forget."""
        if self._closed:
            raise EngineError("the engine is closed; open another")
        return True

    def close(self) -> None:
        """End the engine."""
        self._closed = True


_PIECE = re.compile(r"\s*\S{1,6}")


class _Run:
    """One call of `SimulatedEngine.run`."""

    def __init__(
        self,
        engine: SimulatedEngine,
        requests: Iterator[Request],
        load: Load,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._engine = engine
        self._gpu_model = engine.gpu_model
        self._requests = requests
        self._admission = Admission(load)
        self._deadline_s = deadline_s
        self._on_progress = on_progress
        self._scheduler = Scheduler(
            max_num_seqs=engine.max_num_seqs, max_num_batched_tokens=engine.max_num_batched_tokens
        )
        self._rounds: Counter[str] = Counter()
        self._start_ns = self._now_ns = self._advanced_ns = self._reported_ns = engine.time_source.now_ns()
        self._num_output_tokens = 0
        self._activity: list[Activity] = []
        self._steps: list[Step] = []
        self._completions: list[Completion] = []

    def run(self) -> EngineRun:
        """Hand in, execute steps and complete requests until nothing is in flight."""
        scheduler = self._scheduler
        deadline_ns = float("inf") if self._deadline_s is None else self._start_ns + self._deadline_s * 1e9
        self._fill()
        while scheduler.num_unfinished:
            if self._now_ns > deadline_ns:
                self._abort(f"not finished within the limit of {self._deadline_s:g} s; aborted")
                break
            work = scheduler.schedule(self._now_ns)
            if work is None:
                self._now_ns = scheduler.next_ready_ns
                continue
            self._execute(work)
            ended = scheduler.end_step(self._now_ns)
            for sequence in ended:
                self._complete(sequence, self._now_ns)
            if ended or self._now_ns - self._advanced_ns >= _ADVANCE_PERIOD_NS:
                self._advance()
                self._report()
            if ended:
                self._fill()
        self._advance()
        return EngineRun(start_ns=self._start_ns, end_ns=self._now_ns, completions=self._completions, steps=self._steps)

    def _fill(self) -> None:
        """Take all requests that may be handed in now. The front end hands them over together."""
        arrivals: list[Sequence] = []
        num_in_flight = self._scheduler.num_unfinished
        while self._admission.num_admissible(num_in_flight + len(arrivals)):
            request = next(self._requests, None)
            if request is None:
                break
            round_ = self._rounds[request.request_id]
            self._rounds[request.request_id] += 1
            sequence = Sequence(request=request, round=round_, queued_ns=self._now_ns, ready_ns=self._now_ns)
            if (refusal := self._refusal(request)) is None:
                arrivals.append(sequence)
            else:
                self._complete(sequence, None, error=f"refused: {refusal}")
                # A refusal takes time: a caller that repeats requests until a window is long enough must see it pass.
                self._now_ns += round(self._gpu_model.admission_s * 1e9)
                self._advance()
        front_end_s = self._gpu_model.turnaround_s + self._gpu_model.admission_s * (len(arrivals) - 1)
        for sequence in arrivals:
            sequence.ready_ns += round(front_end_s * 1e9)
            self._scheduler.add(sequence)

    def _refusal(self, request: Request) -> str | None:
        """Return why vLLM would not take a request."""
        num_tokens = len(request.prompt_token_ids) + request.max_output_tokens
        if num_tokens > self._engine.max_model_len:
            return f"{num_tokens} tokens of prompt and output exceed max_model_len {self._engine.max_model_len}"
        if not request.prompt_token_ids:
            return "the prompt is empty"
        if request.kind == "generate" and request.max_output_tokens < 1:
            return "max_output_tokens must be at least 1"
        return None

    def _execute(self, work: StepWork) -> None:
        """Let the GPU do a step at the operating point in force."""
        engine = self._engine
        activity = engine.state.execute_step(self._gpu_model, engine.shape, work, self._now_ns)
        self._now_ns = activity.end_ns
        self._num_output_tokens += work.num_decode_tokens
        self._activity.append(activity)
        self._steps.append(
            Step(
                time_ns=activity.end_ns,
                num_prefill_tokens=work.num_prefill_tokens,
                num_decode_tokens=work.num_decode_tokens,
                num_running=self._scheduler.num_running,
            )
        )

    def _complete(self, sequence: Sequence, last_token_ns: int | None, error: str | None = None) -> None:
        request = sequence.request
        if request.kind == "generate" and sequence.first_token_ns is not None:
            self._num_output_tokens += 1  # the one that prefill made; decoding counts its own as it goes
        self._completions.append(
            Completion(
                request_id=request.request_id,
                round=sequence.round,
                sample_id=request.sample_id,
                kind=request.kind,
                num_prompt_tokens=len(request.prompt_token_ids),
                num_cached_tokens=0 if sequence.scheduled_ns else None,
                num_output_tokens=request.max_output_tokens if error is None else 0,
                queued_ns=sequence.queued_ns,
                scheduled_ns=sequence.scheduled_ns,
                first_token_ns=sequence.first_token_ns,
                last_token_ns=last_token_ns,
                truncated=request.truncated,
                error=error,
            )
        )

    def _abort(self, reason: str) -> None:
        """Withdraw what is in flight."""
        for sequence in self._scheduler.abort():
            self._complete(sequence, None, error=reason)

    def _advance(self) -> None:
        """Advance the time source. What the GPU did until now is logged first, so that a reader finds it."""
        if self._activity:
            self._engine.state.log_activity(self._activity)
            self._activity.clear()
        self._engine.time_source.advance_to(self._now_ns)
        self._advanced_ns = self._now_ns

    def _report(self) -> None:
        if self._on_progress is not None and self._now_ns - self._reported_ns >= _PROGRESS_PERIOD_NS:
            self._reported_ns = self._now_ns
            self._on_progress(len(self._completions), self._num_output_tokens)
