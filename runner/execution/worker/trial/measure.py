"""One trial, from setting the clocks to the raw data. It uses no Ray.

A loaded engine, a sampled GPU and a round of requests enter. A `Measurement` leaves. Next: `aggregator.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from runner.execution.worker.trial.edges import WindowEdges
from runner.execution.worker.trial.procedure import Procedure, RequestsRun, run_requests
from runner.execution.worker.trial.rounds import until_interrupted
from runner.execution.worker.trial.settle import Settling
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.gpu import Gpu
from runner.hardware.host.meter import HostMeter, mean_power_w
from runner.hardware.sensors.idle_power import measure_idle_power
from runner.hardware.sensors.sampler import PowerSampler
from runner.inference.engine import Engine
from runner.results.live import GpuPhase
from runner.results.measurement import CounterTick, Identity, Measurement, Placement
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request
from runner.tasks.features.tokens import token_entropy_bits
from runner.timebase import TimeSource

TRACE_MARGIN_NS = 300_000_000
"""How much of the trace before the window is kept."""


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What a trial is measured with: one GPU, leased and sampled, and an engine loaded on it."""

    engine: Engine
    gpu: Gpu
    lease: ClockLease
    sampler: PowerSampler
    time_source: TimeSource
    placement: Placement
    host: HostMeter
    engine_process_ids: frozenset[int] | None = None
    """The engine's processes on the GPU; None where the NVIDIA driver does not list processes."""
    engine_on_gpu: bool = True
    """False where a server is known to compute on another GPU, or on none."""
    memory_left_behind: bool = False
    """Whether memory of the engine before this one was still in use after that engine had ended."""
    idle_power_w: dict[OperatingPoint, float | None] = field(default_factory=dict)
    """Idle power with this engine loaded, by operating point. The first trial at each measures it."""
    host_idle_power_w: dict[OperatingPoint, float | None] = field(default_factory=dict)
    """The whole host's power meanwhile."""
    prompt_likelihood_nats: dict[str, Mapping[str, float | None]] = field(default_factory=dict)
    """The likelihood of each prompt: by task, then by request_id. It holds only tasks that ask for it."""


class InterruptedTrialError(Exception):
    """The run was interrupted. The trial in progress counts as not run."""


def measure_trial(
    context: TrialContext,
    identity: Identity,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    on_phase: Callable[[GpuPhase], None] = lambda _: None,
    on_progress: Callable[[int, int], None] | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Measurement:
    """Measure one trial: set the operating point, warm up, open the window, run the requests, close the window.

    Args:
        requests: one round of the task, [num_requests]. The window repeats it in whole rounds for `min_window_s`.
        on_phase: called when a part of the trial begins.
        on_progress: called with (requests finished, output tokens) while the window is open.
        is_interrupted: asked before each request. Once it returns True, no further request starts.
    Raises: GpuError, EngineError, InterruptedTrialError. The sampler's error: without samples the trial has no energy.
    """
    on_phase("settling")
    context.lease.apply(identity.operating_point)
    settling = Settling(context.sampler, context.time_source, identity.operating_point)
    on_phase("warming up")
    warmup = until_interrupted(is_interrupted, settling.warm_up(requests, procedure.num_warmup_requests))
    context.engine.run(warmup, identity.load.warm_up, procedure.sampling, deadline_s=procedure.deadline_s)
    _go_on(is_interrupted)
    idle_power_w = _find_idle_power(context, identity.operating_point)
    prefix_cache_reset = context.engine.reset_prefix_cache()
    on_phase("measuring")
    window = _measure_window(
        context, identity, requests, procedure, on_progress=on_progress, is_interrupted=is_interrupted
    )
    return Measurement(
        identity=identity,
        placement=context.placement,
        start_ns=window.requests.start_ns,
        end_ns=window.requests.end_ns,
        completions=window.requests.completions,
        num_requests_left_out=_count_left_out(window, len(requests)) if procedure.holds_rounds else None,
        steps=window.requests.run.steps,
        power=window.power,
        counter_start=window.counter_start,
        counter_end=window.counter_end,
        idle_power_w=idle_power_w,
        edge_start=window.edges.start,
        edge_end=window.edges.end,
        meters=window.edges.meters,
        settle_s=settling.settle_s,
        persistence_mode=context.gpu.info.persistence_mode,
        engine_process_ids=context.engine_process_ids,
        engine_on_gpu=context.engine_on_gpu,
        memory_left_behind=context.memory_left_behind,
        prefix_cache_reset=prefix_cache_reset,
        pace_lost_s=window.requests.run.pace_lost_s,
        sensors=context.sampler.sensors,
        shape=context.engine.shape,
        batch_edges_ns=window.requests.batch_edges_ns,
        prompt_token_entropy_bits={request.request_id: token_entropy_bits(request) for request in requests},
        prompt_surprise_nats=context.prompt_likelihood_nats.get(identity.task, {}),
    )


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What is read in a window and at its edges."""

    requests: RequestsRun
    power: pl.DataFrame
    counter_start: CounterTick | None
    counter_end: CounterTick | None
    edges: WindowEdges


def _measure_window(
    context: TrialContext,
    identity: Identity,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    on_progress: Callable[[int, int], None] | None,
    is_interrupted: Callable[[], bool],
) -> _Window:
    """Open the window, run its requests, close it, and take its trace from the sampler.

    Raises: GpuError, EngineError, InterruptedTrialError; the sampler's error.
    """
    edges = WindowEdges(
        gpu=context.gpu,
        host=context.host,
        host_idle_power_w=context.host_idle_power_w.get(identity.operating_point),
        memory_power_reason=context.sampler.memory_power_reason,
    )
    is_closed = isinstance(identity.load, ClosedLoop)
    if is_closed:
        edges.read_start()
    counter_start = _mark_tick(context.sampler)
    if is_closed:
        edges.open_meters()
    requests_run = run_requests(
        context.engine,
        requests,
        identity.load,
        procedure,
        context.time_source,
        on_progress=on_progress,
        on_edge=edges.read_next,
        is_interrupted=is_interrupted,
    )
    _go_on(is_interrupted)
    run = requests_run.run
    if is_closed:
        edges.close_meters()
    counter_end = _mark_tick(context.sampler)
    if is_closed:
        edges.read_end()
    covered_ns = max(run.end_ns, counter_end.time_ns if counter_end else 0)
    context.sampler.wait_covered(covered_ns)
    context.sampler.wait_memory_covered(run.end_ns)
    if context.sampler.error is not None:
        raise context.sampler.error
    first_ns = min(run.start_ns, counter_start.time_ns if counter_start else run.start_ns) - TRACE_MARGIN_NS
    return _Window(
        requests=requests_run,
        # Up to now: readings that average over the past reach that far.
        power=context.sampler.take().filter(pl.col("time_ns") >= first_ns),
        counter_start=counter_start,
        counter_end=counter_end,
        edges=edges,
    )


def _go_on(is_interrupted: Callable[[], bool]) -> None:
    """Raises: InterruptedTrialError: the run was interrupted."""
    if is_interrupted():
        raise InterruptedTrialError


def _count_left_out(window: _Window, num_round: int) -> int:
    """Return how many requests of the last round never started, since the window was cut."""
    return -sum(completion.in_window for completion in window.requests.completions) % num_round


def _find_idle_power(context: TrialContext, point: OperatingPoint) -> float | None:
    """Return idle power at the operating point in force, in W, measured unless an earlier trial has done so."""
    if context.idle_power_w.get(point) is None:
        before = context.host.read()
        context.idle_power_w[point] = measure_idle_power(context.sampler, context.time_source)
        context.host_idle_power_w[point] = mean_power_w(before, context.host.read())
    return context.idle_power_w[point]


def _mark_tick(sampler: PowerSampler) -> CounterTick | None:
    tick = sampler.mark_counter_tick()
    return CounterTick(time_ns=tick[0], energy_j=tick[1]) if tick else None
