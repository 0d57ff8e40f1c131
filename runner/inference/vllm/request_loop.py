"""The loop beside a vLLM engine: it hands in requests as the load says, and collects what became of each.

For a small model this loop, not the GPU, limits throughput. It does as little as it can for each output, and converts
outputs to `Completion`s after the window.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice

from runner.inference.admission import Admission, ArrivalAdmission
from runner.inference.arrivals import Arrivals
from runner.inference.engine import Sampling
from runner.inference.vllm.compat import FrontEnd, RequestOutput, engine_dead_error, make_prompt
from runner.inference.vllm.conversion import HandedIn, make_completion, make_sampling_params
from runner.inference.vllm.iteration_log import IterationLog
from runner.spec.load import ClosedLoop
from runner.spec.request import UNFINISHED, Completion, Request

_PROGRESS_PERIOD_S = 0.25
_CHECK_PERIOD_S = 1.0


class RequestLoop:
    """One run of requests over an open engine.

    Args:
        front_end: the engine.
        log: reads the engine's steps.
        sampling: how tokens are drawn.
        detokenize: whether generated tokens are turned into a text.
        request_limit_s: seconds after which a request in flight is withdrawn and comes back with an error.
        hand_in_together: makes the context in which requests are handed in that free places have let in together.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        log: IterationLog,
        sampling: Sampling,
        *,
        detokenize: bool,
        request_limit_s: float | None = None,
        hand_in_together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._front_end = front_end
        self._log = log
        self._sampling = sampling
        self._detokenize = detokenize
        self._request_limit_s = request_limit_s
        self._hand_in_together = hand_in_together
        self._rounds: Counter[str] = Counter()
        self._in_flight: dict[str, HandedIn] = {}
        self._ended: list[tuple[HandedIn, RequestOutput | str]] = []
        self._generates = False

    def run(
        self,
        requests: Iterator[Request],
        load: ClosedLoop,
        *,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Keep requests in flight until the iterator ends; abort what is left after `deadline_s`."""
        in_flight, step = self._in_flight, self._front_end.step
        admission = Admission(load)
        start = time.monotonic()
        deadline = float("inf") if deadline_s is None else start + deadline_s
        checks = _Checks(self, start, on_progress)
        self._fill(requests, admission)
        while in_flight:
            self._collect(step())
            now = time.monotonic()
            if now > deadline:
                self.abort(f"not finished within the limit of {deadline_s:g} s; aborted")
                return
            checks.run(now)
            if admission.num_admissible(len(in_flight)):
                self._fill(requests, admission)
            checks.report(now)

    def run_arrivals(
        self,
        requests: Iterator[Request],
        arrivals: Arrivals,
        *,
        start_ns: int,
        deadline_s: float | None,
        on_progress: Callable[[int, int], None] | None,
        on_edge: Callable[[], None] | None = None,
    ) -> None:
        """Hand in each request when it arrives, until those of the window have ended; then withdraw what is left.

        Args:
            start_ns: the start of the run, on the host's monotonic clock.
        """
        in_flight, admission = self._in_flight, ArrivalAdmission(arrivals)
        start = start_ns * 1e-9
        limit = start + min(arrivals.limit_s, float("inf") if deadline_s is None else deadline_s)
        checks = _Checks(self, start, on_progress)
        edges = [start + edge_s for edge_s in arrivals.edges_s] if on_edge else []
        now = time.monotonic()
        while now < limit and not admission.is_over(now - start):
            while start + admission.next_s <= now:
                request = next(requests, None)
                if request is None:  # interrupted
                    self.abort("interrupted")
                    return
                time_s, in_window = admission.arrive()
                if not self._hand_in(request, arrived_ns=start_ns + round(time_s * 1e9), in_window=in_window):
                    admission.end(in_window=in_window)
            if on_edge and edges and edges[0] <= now:
                edges.pop(0)
                on_edge()
                continue
            wake = min(start + admission.next_s, limit, *edges)
            if in_flight:
                for handed_in in self._collect(self._front_end.step_until(wake)):
                    admission.end(in_window=handed_in.in_window)
            else:
                time.sleep(max(min(wake - time.monotonic(), _CHECK_PERIOD_S), 0.0))
            now = time.monotonic()
            for handed_in in checks.run(now):
                admission.end(in_window=handed_in.in_window)
            checks.report(now)
        self.abort(UNFINISHED)

    def abort(self, reason: str) -> None:
        """Withdraw what is in flight and wait until the core has dropped it. A dead core has nothing to drop."""
        with suppress(engine_dead_error()):
            self._front_end.abort(list(self._in_flight))
            self._front_end.wait_for_core()
        self._ended += [(handed_in, reason) for handed_in in self._in_flight.values()]
        self._in_flight.clear()

    def completions(self, monotonic_offset_ns: int) -> list[Completion]:
        """Return what became of the requests, in the order in which they ended.

        Args:
            monotonic_offset_ns: leads from the host's monotonic clock to the epoch.
        """
        return [
            make_completion(handed_in, outcome, monotonic_offset_ns, detokenize=self._detokenize)
            for handed_in, outcome in self._ended
        ]

    @property
    def request_limit_s(self) -> float | None:
        """Seconds after which a request in flight is withdrawn."""
        return self._request_limit_s

    @property
    def num_ended(self) -> int:
        """Requests that have ended."""
        return len(self._ended)

    @property
    def num_output_tokens(self) -> int:
        """Tokens that have left the core."""
        return self._log.num_outputs if self._generates else 0

    def abort_overdue(self) -> list[HandedIn]:
        """Withdraw the requests that have been in flight for longer than one may be, and return them."""
        if self._request_limit_s is None:
            return []
        oldest_ns = time.monotonic_ns() - round(self._request_limit_s * 1e9)
        overdue = [request_id for request_id, handed_in in self._in_flight.items() if handed_in.time_ns < oldest_ns]
        if not overdue:
            return []
        self._front_end.abort(overdue)
        reason = f"not finished within the request's limit of {self._request_limit_s:g} s; aborted"
        withdrawn = [self._in_flight.pop(request_id) for request_id in overdue]
        self._ended += [(handed_in, reason) for handed_in in withdrawn]
        return withdrawn

    def _collect(self, outputs: list[RequestOutput]) -> list[HandedIn]:
        """Take the requests that have ended out of those in flight, and return them."""
        collected = []
        for output in outputs:
            if output.finished and output.request_id in self._in_flight:
                handed_in = self._in_flight.pop(output.request_id)
                self._ended.append((handed_in, output))
                collected.append(handed_in)
        return collected

    def _fill(self, requests: Iterator[Request], admission: Admission) -> None:
        """Hand in all requests that may be handed in now. A refused request has ended and leaves its place free."""
        while waiting := list(islice(requests, admission.num_admissible(len(self._in_flight)))):
            with self._hand_in_together():
                for request in waiting:
                    self._hand_in(request)

    def _hand_in(self, request: Request, arrived_ns: int | None = None, *, in_window: bool = True) -> bool:
        """Hand in a request; returns False for one that vLLM refuses, which has ended."""
        round_ = self._rounds[request.request_id]
        self._rounds[request.request_id] += 1
        request_id = f"{request.request_id}#{round_}"  # vLLM needs ids that no other request in flight has
        self._generates = self._generates or request.kind == "generate"
        handed_in = HandedIn(request, round_, time.monotonic_ns(), arrived_ns, in_window)
        try:
            prompt = make_prompt(request.prompt_token_ids)
            params = make_sampling_params(request, self._sampling, detokenize=self._detokenize)
            handed_in = handed_in._replace(time_ns=time.monotonic_ns())
            self._in_flight[request_id] = handed_in
            self._front_end.add_request(request_id, prompt, params)
        except engine_dead_error():
            raise
        except Exception as error:
            # vLLM refuses a request (too long, a token id out of range ...) with errors of several kinds.
            self._in_flight.pop(request_id, None)
            self._ended.append((handed_in, f"refused: {error}"))
            return False
        return True


class _Checks:
    """What a loop does now and then: withdraw overdue requests once a second, and report progress four times a second.

    Args:
        start: on the host's monotonic clock, in s.
    """

    def __init__(self, loop: RequestLoop, start: float, on_progress: Callable[[int, int], None] | None) -> None:
        self._loop = loop
        self._on_progress = on_progress
        self._next_report = float("inf") if on_progress is None else start + _PROGRESS_PERIOD_S
        self._next_check = float("inf") if loop.request_limit_s is None else start + _CHECK_PERIOD_S

    def run(self, now: float) -> list[HandedIn]:
        """Withdraw overdue requests, if it is time; returns them."""
        if now < self._next_check:
            return []
        self._next_check = now + _CHECK_PERIOD_S
        return self._loop.abort_overdue()

    def report(self, now: float) -> None:
        """Report progress, if it is time."""
        if self._on_progress is not None and now >= self._next_report:
            self._next_report = now + _PROGRESS_PERIOD_S
            self._on_progress(self._loop.num_ended, self._loop.num_output_tokens)
