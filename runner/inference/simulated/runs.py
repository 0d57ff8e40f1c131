"""One run of a `SimulatedEngine`: requests are handed in as the load says, and the GPU executes step after step.

Requests enter; their completions, the steps and the GPU's activity leave. `scheduler.py` says what a step holds.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from runner.inference.admission import Admission, ArrivalAdmission
from runner.inference.arrivals import Arrivals
from runner.inference.engine import EngineRun
from runner.inference.simulated.scheduler import Scheduler, Sequence
from runner.physics.gpu_state import Activity
from runner.physics.shape import StepWork
from runner.spec.load import ClosedLoop
from runner.spec.request import UNFINISHED, Completion, Request, Step

if TYPE_CHECKING:
    from runner.inference.simulated.engine import SimulatedEngine

_PROGRESS_PERIOD_NS = 250_000_000
_ADVANCE_PERIOD_NS = 100_000_000
"""How far steps may run ahead of the time source. A change of the operating point takes effect this much later."""


class _Run:
    """One call of `SimulatedEngine.run`: what both kinds of load share."""

    def __init__(
        self,
        engine: "SimulatedEngine",
        requests: Iterator[Request],
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._engine = engine
        self._gpu_model = engine.gpu_model
        self._requests = requests
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

    def _end_run(self) -> EngineRun:
        self._advance()
        return EngineRun(start_ns=self._start_ns, end_ns=self._now_ns, completions=self._completions, steps=self._steps)

    def _take(self, request: Request, queued_ns: int, *, in_window: bool = True) -> Sequence | None:
        """Return a request as a sequence; None where vLLM would refuse it, which ends it."""
        round_ = self._rounds[request.request_id]
        self._rounds[request.request_id] += 1
        sequence = Sequence(request=request, round=round_, queued_ns=queued_ns, ready_ns=queued_ns, in_window=in_window)
        if (refusal := self._refusal(request)) is None:
            return sequence
        self._complete(sequence, None, error=f"refused: {refusal}")
        # A refusal takes time: a caller that repeats requests until a window is long enough must see it pass.
        self._now_ns += round(self._gpu_model.admission_s * 1e9)
        self._advance()
        return None

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
                arrival_lateness_s=sequence.arrival_lateness_s,
                in_window=sequence.in_window,
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


class ClosedRun(_Run):
    """A run that keeps requests in flight until the iterator ends."""

    def __init__(
        self,
        engine: "SimulatedEngine",
        requests: Iterator[Request],
        load: ClosedLoop,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        super().__init__(engine, requests, deadline_s, on_progress)
        self._admission = Admission(load)

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
        return self._end_run()

    def _fill(self) -> None:
        """Take all requests that may be handed in now. The front end hands them over together."""
        arrivals: list[Sequence] = []
        num_in_flight = self._scheduler.num_unfinished
        while self._admission.num_admissible(num_in_flight + len(arrivals)):
            request = next(self._requests, None)
            if request is None:
                break
            if (sequence := self._take(request, self._now_ns)) is not None:
                arrivals.append(sequence)
        front_end_s = self._gpu_model.turnaround_s + self._gpu_model.admission_s * (len(arrivals) - 1)
        for sequence in arrivals:
            sequence.ready_ns += round(front_end_s * 1e9)
            self._scheduler.add(sequence)


class ArrivalRun(_Run):
    """A run whose requests arrive at a rate."""

    def __init__(
        self,
        engine: "SimulatedEngine",
        requests: Iterator[Request],
        arrivals: Arrivals,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
        *,
        on_edge: Callable[[], None] | None,
    ) -> None:
        super().__init__(engine, requests, deadline_s, on_progress)
        self._admission = ArrivalAdmission(arrivals)
        self._on_edge = on_edge
        self._edges_ns = [self._start_ns + math.ceil(edge_s * 1e9) for edge_s in arrivals.edges_s] if on_edge else []
        self._limit_s = min(arrivals.limit_s, float("inf") if deadline_s is None else deadline_s)

    def run(self) -> EngineRun:
        """Take requests as they arrive and execute steps until those of the window have ended."""
        scheduler, admission = self._scheduler, self._admission
        while self._elapsed_s < self._limit_s and not admission.is_over(self._elapsed_s):
            if not self._take_arrivals():  # interrupted
                break
            self._tell_edge()
            work = scheduler.schedule(self._now_ns) if scheduler.num_unfinished else None
            if work is None:
                self._wait()
                continue
            self._execute(work)
            for sequence in scheduler.end_step(self._now_ns):
                self._complete(sequence, self._now_ns)
                admission.end(in_window=sequence.in_window)
            if self._now_ns - self._advanced_ns >= _ADVANCE_PERIOD_NS:
                self._advance()
                self._report()
        self._abort(UNFINISHED)
        return self._end_run()

    @property
    def _elapsed_s(self) -> float:
        return (self._now_ns - self._start_ns) * 1e-9

    def _take_arrivals(self) -> bool:
        """Take the requests that have arrived by now; returns False where the iterator has ended."""
        while self._start_ns + self._admission.next_s * 1e9 <= self._now_ns:
            request = next(self._requests, None)
            if request is None:
                return False
            time_s, in_window = self._admission.arrive()
            sequence = self._take(request, self._start_ns + round(time_s * 1e9), in_window=in_window)
            if sequence is None:
                self._admission.end(in_window=in_window)
                continue
            # The front end sleeps until a request arrives, and hands it over at once.
            sequence.arrival_lateness_s = 0.0
            sequence.ready_ns += round(self._gpu_model.turnaround_s * 1e9)
            self._scheduler.add(sequence)
        return True

    def _tell_edge(self) -> None:
        """Call `on_edge` once the time has come to an edge of the window."""
        if self._on_edge is not None and self._edges_ns and self._edges_ns[0] <= self._now_ns:
            self._edges_ns.pop(0)
            self._advance()
            self._on_edge()

    def _wait(self) -> None:
        """Let the time pass until the next request arrives or is ready, a tenth of a second at most."""
        arrives_ns = self._start_ns + math.ceil(self._admission.next_s * 1e9)
        ready_ns = self._scheduler.next_ready_ns if self._scheduler.num_unfinished else arrives_ns
        limit_ns = self._start_ns + math.ceil(self._limit_s * 1e9)
        until_ns = min(arrives_ns, ready_ns, limit_ns, self._now_ns + _ADVANCE_PERIOD_NS, *self._edges_ns)
        self._now_ns = max(until_ns, self._now_ns + 1)
        if self._now_ns - self._advanced_ns >= _ADVANCE_PERIOD_NS:
            self._advance()
            self._report()
