"""One trial, from setting the clocks to the raw data. It uses no Ray.

A loaded engine, a sampled GPU and a round of requests enter. A `Measurement` leaves. Next: `aggregator.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from runner.execution.worker.rounds import EdgesNs, repeat_rounds, run_batches, until_interrupted
from runner.execution.worker.settle import Settling
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.gpu import Gpu, GpuError, GpuLostError
from runner.hardware.sensors.sampler import PowerSampler
from runner.inference.engine import Engine, EngineRun, Sampling
from runner.results.live import GpuPhase
from runner.results.measurement import CounterTick, EdgeReading, Identity, Measurement, Placement
from runner.spec.load import Load
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block
from runner.tasks.features.tokens import token_entropy_bits
from runner.timebase import TimeSource

TRACE_MARGIN_NS = 300_000_000
"""How much of the trace before the window is kept."""
IDLE_S = 1.0
"""How long idle power is measured."""
IDLE_DELAY_S = 0.2
"""The wait between the last request and measuring idle power: ten samples of the sample buffer, past the fall from work
to rest. A sensor that averages over the past adds its averaging window."""


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What a trial is measured with: one GPU, leased and sampled, and an engine loaded on it."""

    engine: Engine
    gpu: Gpu
    lease: ClockLease
    sampler: PowerSampler
    time_source: TimeSource
    placement: Placement
    engine_process_ids: frozenset[int] | None = None
    """The engine's processes on the GPU; None where the NVIDIA driver does not list processes."""
    memory_left_behind: bool = False
    """Whether memory of the engine before this one was still in use after that engine had ended."""
    idle_power_w: dict[OperatingPoint, float | None] = field(default_factory=dict)
    """Idle power with this engine loaded, by operating point. The first trial at each measures it."""
    prompt_likelihood_nats: dict[str, Mapping[str, float | None]] = field(default_factory=dict)
    """The likelihood of each prompt: by task, then by request_id. It holds only tasks that ask for it."""


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

    @property
    def holds_rounds(self) -> bool:
        """Whether a window holds rounds in which each request stands once."""
        return not self.static_batches and self.repeat_each_s is None


def choose_procedure(sweep: SweepSpec, block: Block) -> Procedure:
    """Return how a sweep measures the trials of a block."""
    sampling, num_warmup = sweep.sampling, sweep.num_warmup_requests
    return Procedure(
        sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed),
        min_window_s=sweep.min_window_s,
        num_warmup_requests=block.load.num_warmup_requests if num_warmup is None else num_warmup,
        deadline_s=sweep.limits.trial_s,
        max_window_s=sweep.max_window_s,
        static_batches=block.task.phases == "static_batches",
        repeat_each_s=block.task.repeat_each_s,
    )


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
    context.engine.run(warmup, identity.load, procedure.sampling, deadline_s=procedure.deadline_s)
    if is_interrupted():
        raise InterruptedTrialError
    idle_power_w = _find_idle_power(context, identity.operating_point)
    prefix_cache_reset = context.engine.reset_prefix_cache()

    on_phase("measuring")
    window = _measure_window(
        context, identity.load, requests, procedure, on_progress=on_progress, is_interrupted=is_interrupted
    )
    return Measurement(
        identity=identity,
        placement=context.placement,
        start_ns=window.run.start_ns,
        end_ns=window.run.end_ns,
        completions=window.run.completions,
        num_requests_left_out=-len(window.run.completions) % len(requests) if procedure.holds_rounds else None,
        steps=window.run.steps,
        power=window.power,
        counter_start=window.counter_start,
        counter_end=window.counter_end,
        idle_power_w=idle_power_w,
        edge_start=window.edge_start,
        edge_end=window.edge_end,
        settle_s=settling.settle_s,
        persistence_mode=context.gpu.info.persistence_mode,
        engine_process_ids=context.engine_process_ids,
        memory_left_behind=context.memory_left_behind,
        prefix_cache_reset=prefix_cache_reset,
        pace_lost_s=window.run.pace_lost_s,
        sensors=context.sampler.sensors,
        shape=context.engine.shape,
        batch_edges_ns=window.batch_edges_ns,
        prompt_token_entropy_bits={request.request_id: token_entropy_bits(request) for request in requests},
        prompt_surprise_nats=context.prompt_likelihood_nats.get(identity.task, {}),
    )


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What is read in a window and at its edges."""

    run: EngineRun
    batch_edges_ns: EdgesNs | None
    power: pl.DataFrame
    counter_start: CounterTick | None
    counter_end: CounterTick | None
    edge_start: EdgeReading
    edge_end: EdgeReading


def _measure_window(
    context: TrialContext,
    load: Load,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    on_progress: Callable[[int, int], None] | None,
    is_interrupted: Callable[[], bool],
) -> _Window:
    """Open the window, run its requests, close it, and take its trace from the sampler.

    Raises: GpuError, EngineError, InterruptedTrialError; the sampler's error.
    """
    edge_start = _read_edge(context.gpu)
    counter_start = _mark_tick(context.sampler)
    run, batch_edges_ns = _run_requests(
        context, load, requests, procedure, on_progress=on_progress, is_interrupted=is_interrupted
    )
    if is_interrupted():
        raise InterruptedTrialError
    counter_end = _mark_tick(context.sampler)
    edge_end = _read_edge(context.gpu)
    covered_ns = max(run.end_ns, counter_end.time_ns if counter_end else 0)
    context.sampler.wait_covered(covered_ns)
    if context.sampler.error is not None:
        raise context.sampler.error
    first_ns = min(run.start_ns, counter_start.time_ns if counter_start else run.start_ns) - TRACE_MARGIN_NS
    return _Window(
        run=run,
        batch_edges_ns=batch_edges_ns,
        # Up to now: readings that average over the past reach that far.
        power=context.sampler.take().filter(pl.col("time_ns") >= first_ns),
        counter_start=counter_start,
        counter_end=counter_end,
        edge_start=edge_start,
        edge_end=edge_end,
    )


def _run_requests(
    context: TrialContext,
    load: Load,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    on_progress: Callable[[int, int], None] | None,
    is_interrupted: Callable[[], bool],
) -> tuple[EngineRun, EdgesNs | None]:
    """Run the window's requests. Returns the run, and the edges of its static batches, or None without such batches."""
    if procedure.static_batches:
        return run_batches(
            context.engine,
            requests,
            load,
            procedure.sampling,
            context.time_source,
            min_window_s=procedure.min_window_s,
            deadline_s=procedure.deadline_s,
            on_progress=on_progress,
            is_interrupted=is_interrupted,
        )
    rounds = repeat_rounds(
        requests,
        context.time_source,
        min_window_s=procedure.min_window_s,
        max_window_s=procedure.max_window_s,
        repeat_each_s=procedure.repeat_each_s,
    )
    run = context.engine.run(
        until_interrupted(is_interrupted, rounds),
        load,
        procedure.sampling,
        deadline_s=procedure.deadline_s,
        on_progress=on_progress,
    )
    return run, None


def _find_idle_power(context: TrialContext, point: OperatingPoint) -> float | None:
    """Return idle power at the operating point in force, in W, measured unless an earlier trial has done so."""
    if context.idle_power_w.get(point) is None:
        context.idle_power_w[point] = measure_idle_power(context.sampler, context.time_source)
    return context.idle_power_w[point]


def measure_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """Return the GPU's mean power over `IDLE_S` without requests, in W; None where no sensor shows it."""
    time_source.sleep(IDLE_DELAY_S + sampler.reach_s)
    start_ns = time_source.now_ns()
    time_source.sleep(IDLE_S)
    end_ns = time_source.now_ns()
    sampler.wait_covered(end_ns)
    readings = sampler.look_back(start_ns)  # and leave them to the sampler: the next window needs the last of them
    mean_w = readings.filter(pl.col("time_ns") <= end_ns)["power_w"].drop_nulls().mean()
    return mean_w if isinstance(mean_w, float) else _count_idle_power(sampler, time_source)


def _count_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """Return idle power by the energy counter, for GPUs that report no power."""
    start = _mark_tick(sampler)
    time_source.sleep(IDLE_S)
    end = _mark_tick(sampler)
    if start is None or end is None or end.energy_j < start.energy_j:
        return None
    return (end.energy_j - start.energy_j) / ((end.time_ns - start.time_ns) * 1e-9)


def read_process_ids(gpu: Gpu) -> frozenset[int] | None:
    """Return the processes on the GPU; None where the NVIDIA driver does not list them. Raises: GpuLostError."""
    try:
        return frozenset(gpu.read_process_ids())
    except GpuLostError:
        raise
    except GpuError:
        return None


def _read_edge(gpu: Gpu) -> EdgeReading:
    throttled = gpu.read_throttle_times()
    return EdgeReading(
        power_limit_w=gpu.read_power_limit_w(),
        throttled_power_s=throttled.power_s,
        throttled_thermal_s=throttled.thermal_s,
        throttled_other_s=throttled.other_s,
        process_ids=read_process_ids(gpu),
    )


def _mark_tick(sampler: PowerSampler) -> CounterTick | None:
    tick = sampler.mark_counter_tick()
    return CounterTick(time_ns=tick[0], energy_j=tick[1]) if tick else None
