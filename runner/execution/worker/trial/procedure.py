"""How the trials of a block are measured, and the run of requests that a window is made of.

A sweep and a block enter, a `Procedure` leaves. Requests and a `Procedure` enter, a `RequestsRun` leaves. Next:
`measure.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from runner.execution.worker.trial.rounds import EdgesNs, repeat_rounds, run_batches, until_interrupted
from runner.inference.arrivals import Arrivals, draw_arrivals, explain_too_long, replay_arrivals
from runner.inference.engine import Engine, EngineRun, Sampling
from runner.spec.load import ClosedLoop, Load, OpenLoop, Replay
from runner.spec.request import Completion, Request
from runner.spec.serving.trace import Trace
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block
from runner.timebase import TimeSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """How a trial is measured. It is the same for every trial of a block."""

    sampling: Sampling
    min_window_s: float
    num_warmup_requests: int
    deadline_s: float
    max_window_s: float | None = None
    """No request starts later in a window. Static batches end by themselves."""
    static_batches: bool = False
    """Whether requests run in static batches, so that prefill and decoding do not overlap."""
    repeat_each_s: float | None = None
    """How long each prompt is repeated before the next one."""
    ramp_s: float = 0.0
    """How long requests of an open loop arrive before the window opens."""
    seed: int = 0
    """Of the arrivals of an open loop."""
    trace: Trace | None = None
    """When the requests of a replay arrive."""

    @property
    def holds_rounds(self) -> bool:
        """Whether a window holds rounds in which each request stands once. A replay's ramp takes a part of its own."""
        return not self.static_batches and self.repeat_each_s is None and self.trace is None


def choose_procedure(sweep: SweepSpec, block: Block) -> Procedure:
    """Return how a sweep measures the trials of a block."""
    sampling, num_warmup = sweep.sampling, sweep.num_warmup_requests
    return Procedure(
        sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed),
        min_window_s=sweep.min_window_s,
        num_warmup_requests=block.load.warm_up.concurrency if num_warmup is None else num_warmup,
        deadline_s=sweep.limits.trial_s,
        max_window_s=sweep.max_window_s,
        static_batches=block.task.phases == "static_batches",
        repeat_each_s=block.task.repeat_each_s,
        ramp_s=sweep.ramp_of_open_loops_s,
        seed=sweep.seed,
        trace=None if block.task.trace is None else block.task.read_trace(),
    )


@dataclass(frozen=True, kw_only=True)
class RequestsRun:
    """The requests of a window, and the window's edges in ns since the epoch."""

    run: EngineRun
    """All that was run. In an open loop it begins before the window and ends after it."""
    start_ns: int
    end_ns: int
    completions: list[Completion]
    """Of the requests that were in flight in the window."""
    batch_edges_ns: EdgesNs | None = None
    """The edges of its static batches; None without such batches."""


def run_requests(
    engine: Engine,
    requests: Sequence[Request],
    load: Load,
    procedure: Procedure,
    time_source: TimeSource,
    *,
    on_progress: Callable[[int, int], None] | None,
    on_edge: Callable[[], None],
    is_interrupted: Callable[[], bool],
) -> RequestsRun:
    """Run the requests of a window. In an open loop `on_edge` is called when the window opens and when it closes.

    Raises: EngineError; ValueError: they arrive over longer than a trial may last."""
    if not isinstance(load, ClosedLoop):
        return _run_arrivals(
            engine,
            requests,
            load,
            procedure,
            on_progress=on_progress,
            on_edge=on_edge,
            is_interrupted=is_interrupted,
        )
    batch_edges_ns = None
    if procedure.static_batches:
        run, batch_edges_ns = run_batches(
            engine,
            requests,
            load,
            procedure.sampling,
            time_source,
            min_window_s=procedure.min_window_s,
            deadline_s=procedure.deadline_s,
            on_progress=on_progress,
            is_interrupted=is_interrupted,
        )
    else:
        rounds = repeat_rounds(
            requests,
            time_source,
            min_window_s=procedure.min_window_s,
            max_window_s=procedure.max_window_s,
            repeat_each_s=procedure.repeat_each_s,
        )
        run = engine.run(
            until_interrupted(is_interrupted, rounds),
            load,
            procedure.sampling,
            deadline_s=procedure.deadline_s,
            on_progress=on_progress,
        )
    return RequestsRun(
        run=run,
        start_ns=run.start_ns,
        end_ns=run.end_ns,
        completions=run.completions,
        batch_edges_ns=batch_edges_ns,
    )


def _run_arrivals(
    engine: Engine,
    requests: Sequence[Request],
    load: OpenLoop | Replay,
    procedure: Procedure,
    *,
    on_progress: Callable[[int, int], None] | None,
    on_edge: Callable[[], None],
    is_interrupted: Callable[[], bool],
) -> RequestsRun:
    arrivals, in_order = _arrange(requests, load, procedure)
    run = engine.run(
        until_interrupted(is_interrupted, in_order),
        arrivals,
        procedure.sampling,
        deadline_s=procedure.deadline_s,
        on_progress=on_progress,
        on_edge=on_edge,
    )
    start_ns = run.start_ns + round(arrivals.ramp_s * 1e9)
    end_ns = start_ns + round(arrivals.window_s * 1e9)
    in_flight = [
        completion
        for completion in run.completions
        if completion.in_window or (completion.queued_ns or 0) <= start_ns < (completion.last_token_ns or end_ns)
    ]
    return RequestsRun(run=run, start_ns=start_ns, end_ns=end_ns, completions=in_flight)


def _arrange(
    requests: Sequence[Request], load: OpenLoop | Replay, procedure: Procedure
) -> tuple[Arrivals, Iterator[Request]]:
    """Return when requests arrive, and the requests in that order. Raises: ValueError: a trial may not last so long."""
    if isinstance(load, Replay):
        trace = procedure.trace
        assert trace is not None, "a replay has a trace"
        return replay_arrivals(trace.arrival_s, trace.duration_s, procedure.ramp_s), cycle(requests)
    arrivals = draw_arrivals(
        load,
        num_round=len(requests),
        min_window_s=procedure.min_window_s,
        ramp_s=procedure.ramp_s,
        seed=procedure.seed,
    )
    if problem := explain_too_long(load, len(requests), arrivals.edges_s[1], procedure.deadline_s):
        raise ValueError(problem)
    return arrivals, _from_the_windows_first(requests, arrivals)


def _from_the_windows_first(requests: Sequence[Request], arrivals: Arrivals) -> Iterator[Request]:
    """Yield the requests, over and over, such that the first one is the first to arrive in the window."""
    ahead = -arrivals.num_ramp % len(requests)
    return cycle([*requests[ahead:], *requests[:ahead]])
