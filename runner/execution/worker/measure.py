"""One trial, from clock to raw data: the loop at the heart of the program, with no Ray in it.

A loaded engine, a sampled GPU and a round of requests enter; a `Measurement` leaves. Next: the aggregator, which
makes a row of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from runner.execution.worker.rounds import EdgesNs, repeat_rounds, run_batches, until_interrupted
from runner.execution.worker.settle import Settling
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.gpu import ClockRequest, Gpu, GpuError, GpuLostError
from runner.hardware.sensors.sampler import PowerSampler
from runner.inference.engine import Engine, EngineRun, Sampling
from runner.results.live import GpuPhase
from runner.results.measurement import CounterTick, EdgeReading, Identity, Measurement, Placement
from runner.spec.load import Load
from runner.spec.request import Request
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block
from runner.tasks.features.tokens import token_entropy_bits
from runner.timebase import TimeSource

TRACE_MARGIN_S = 0.3
"""Trace kept from before the window."""
IDLE_S = 1.0
"""How long idle power is watched,"""
IDLE_DELAY_S = 0.2
"""and how long after the last request: ten samples of the driver's, past the fall from work to rest. A reading that is
the mean of some time before it has to leave that behind as well."""


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What a trial is measured with: one GPU, held, watched, and an engine loaded on it."""

    engine: Engine
    gpu: Gpu
    lease: ClockLease
    sampler: PowerSampler
    time_source: TimeSource
    placement: Placement
    engine_process_ids: frozenset[int] | None = None
    """Our own processes on the GPU; None where the driver does not say."""
    memory_left_behind: bool = False
    """Whether the engine before this one had ended and its memory was still held."""
    idle_power_w: dict[ClockRequest, float | None] = field(default_factory=dict)
    """With this engine loaded and nothing to do, by operating point: watched at the first visit of each."""
    prompt_likelihood_nats: dict[str, Mapping[str, float | None]] = field(default_factory=dict)
    """How unlikely this engine's model finds prompts: by task, then by request_id; only of tasks that ask for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """How a trial is measured; the same for every trial of a block."""

    sampling: Sampling
    min_window_s: float
    num_warmup_requests: int
    deadline_s: float
    static_batches: bool = False
    """Requests start together and drain, batch after batch, so that prefill and decoding stand apart."""
    repeat_each_s: float | None = None
    """Each prompt is repeated for so long before the next one."""


def choose_procedure(sweep: SweepSpec, block: Block) -> Procedure:
    """Return how a sweep measures the trials of a block."""
    sampling, num_warmup = sweep.sampling, sweep.num_warmup_requests
    return Procedure(
        sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed),
        min_window_s=sweep.min_window_s,
        num_warmup_requests=block.load.num_warmup_requests if num_warmup is None else num_warmup,
        deadline_s=sweep.limits.trial_s,
        static_batches=block.task.phases == "static_batches",
        repeat_each_s=block.task.repeat_each_s,
    )


class InterruptedTrialError(Exception):
    """The run was asked to stop; the trial in progress is given up and counts as not yet run."""


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
    """Measure one trial: set the clock, warm up, open the window, keep the requests in flight, close the window.

    Args:
        requests: one round of the task, [num_requests]; repeated in whole rounds for `min_window_s`.
        on_phase: told which part of the trial begins.
        on_progress: told (requests finished, output tokens) while the window is open.
        is_interrupted: asked before each request; once true, no further request starts.
    Raises: GpuError, EngineError, InterruptedTrialError; the sampler's error: without samples the trial has no energy.
    """
    time_source = context.time_source
    on_phase("settling")
    point = ClockRequest(
        sm_clock_mhz=identity.sm_clock_mhz_requested,
        mem_clock_mhz=identity.mem_clock_mhz_requested,
        power_limit_w=identity.power_limit_w_requested,
    )
    context.lease.apply(point)
    settling = Settling(context.sampler, time_source, point)

    on_phase("warming up")
    warmup = until_interrupted(is_interrupted, settling.warm_up(requests, procedure.num_warmup_requests))
    context.engine.run(warmup, identity.load, procedure.sampling, deadline_s=procedure.deadline_s)
    if is_interrupted():
        raise InterruptedTrialError
    if context.idle_power_w.get(point) is None:
        context.idle_power_w[point] = measure_idle_power(context.sampler, time_source)
    prefix_cache_reset = context.engine.reset_prefix_cache()

    on_phase("measuring")
    edge_start = _read_edge(context.gpu)
    counter_start = _mark_tick(context.sampler)
    run, batch_edges_ns = _run_window(
        context, identity.load, requests, procedure, on_progress=on_progress, is_interrupted=is_interrupted
    )
    if is_interrupted():
        raise InterruptedTrialError
    counter_end = _mark_tick(context.sampler)
    edge_end = _read_edge(context.gpu)
    covered_ns = max(run.end_ns, counter_end.time_ns if counter_end else 0)
    context.sampler.wait_covered(covered_ns)
    if context.sampler.error is not None:
        raise context.sampler.error
    margin_ns = round(TRACE_MARGIN_S * 1e9)
    first_ns = min(run.start_ns, counter_start.time_ns if counter_start else run.start_ns) - margin_ns
    power = context.sampler.take().filter(pl.col("time_ns") >= first_ns)  # up to now, so far as an average reaches
    return Measurement(
        identity=identity,
        placement=context.placement,
        start_ns=run.start_ns,
        end_ns=run.end_ns,
        completions=run.completions,
        steps=run.steps,
        power=power,
        counter_start=counter_start,
        counter_end=counter_end,
        idle_power_w=context.idle_power_w[point],
        edge_start=edge_start,
        edge_end=edge_end,
        settle_s=settling.settle_s,
        persistence_mode=context.gpu.info.persistence_mode,
        engine_process_ids=context.engine_process_ids,
        memory_left_behind=context.memory_left_behind,
        prefix_cache_reset=prefix_cache_reset,
        pace_lost_s=run.pace_lost_s,
        sensors=context.sampler.sensors,
        shape=context.engine.shape,
        batch_edges_ns=batch_edges_ns,
        prompt_token_entropy_bits={request.request_id: token_entropy_bits(request) for request in requests},
        prompt_surprise_nats=context.prompt_likelihood_nats.get(identity.task, {}),
    )


def _run_window(
    context: TrialContext,
    load: Load,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    on_progress: Callable[[int, int], None] | None,
    is_interrupted: Callable[[], bool],
) -> tuple[EngineRun, EdgesNs | None]:
    """Let the window's requests run; returns the edges of its static batches too, None where there are none."""
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
        requests, context.time_source, min_window_s=procedure.min_window_s, repeat_each_s=procedure.repeat_each_s
    )
    run = context.engine.run(
        until_interrupted(is_interrupted, rounds),
        load,
        procedure.sampling,
        deadline_s=procedure.deadline_s,
        on_progress=on_progress,
    )
    return run, None


def measure_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """Return the GPU's mean power over `IDLE_S` with nothing to do, in W; None where it has neither sensor."""
    time_source.sleep(IDLE_DELAY_S + sampler.reach_s)
    start_ns = time_source.now_ns()
    time_source.sleep(IDLE_S)
    end_ns = time_source.now_ns()
    sampler.wait_covered(end_ns)
    readings = sampler.look_back(start_ns)  # kept: the last of them lie before the window that comes next
    mean_w = readings.filter(pl.col("time_ns") <= end_ns)["power_w"].drop_nulls().mean()
    return mean_w if isinstance(mean_w, float) else _count_idle_power(sampler, time_source)


def _count_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """The same by the energy counter, for GPUs that show no power."""
    start = _mark_tick(sampler)
    time_source.sleep(IDLE_S)
    end = _mark_tick(sampler)
    if start is None or end is None or end.energy_j < start.energy_j:
        return None
    return (end.energy_j - start.energy_j) / ((end.time_ns - start.time_ns) * 1e-9)


def read_process_ids(gpu: Gpu) -> frozenset[int] | None:
    """Return the processes on the GPU; None where the driver does not say. Raises: GpuLostError."""
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
