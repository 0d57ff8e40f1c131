"""One trial, from clock to raw data: the loop at the heart of the program, with no Ray in it.

A loaded engine, a sampled board and a round of requests enter; a `Measurement` leaves. Next: the aggregator, which
makes a row of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from runner.hardware.gpu import ClockRequest
from runner.hardware.lease import ClockLease
from runner.hardware.sampler import PowerSampler
from runner.inference.engine import Engine, Sampling
from runner.physics.clock import Clock
from runner.results.live import GpuPhase
from runner.results.measurement import CounterTick, Identity, Measurement, Placement
from runner.spec.request import Request

SETTLE_S = 0.1
"""Wait after a change of clocks; published changes take 50 to 80 ms (docs/measurement.md). The warm-up follows."""
TRACE_MARGIN_S = 0.3
"""Trace kept on either side of the window."""
IDLE_S = 1.0
"""How long idle power is watched."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a trial is measured with: one board, held, watched, and an engine loaded on it."""

    engine: Engine
    lease: ClockLease
    sampler: PowerSampler
    clock: Clock
    placement: Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """How a trial is measured; the same for every trial of a block."""

    sampling: Sampling
    min_window_s: float
    num_warmup_requests: int
    deadline_s: float


class CancelledError(Exception):
    """The run was asked to stop; the trial in progress is given up and counts as not yet run."""


def measure_trial(
    bench: Bench,
    identity: Identity,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    idle_power_w: float | None,
    on_phase: Callable[[GpuPhase], None] = lambda _: None,
    on_progress: Callable[[int, int], None] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Measurement:
    """Measure one trial: set the clock, warm up, open the window, keep the requests in flight, close the window.

    Args:
        requests: one round of the task, [num_requests]; repeated in whole rounds for `min_window_s`.
        on_phase: told which part of the trial begins.
        on_progress: told (requests finished, output tokens) while the window is open.
        is_cancelled: asked before each request; once true, no further request starts.
    Raises: GpuError, EngineError, CancelledError; whatever ended the sampling, since nothing of this trial is known.
    """
    clock = bench.clock
    on_phase("settling")
    bench.lease.apply(
        ClockRequest(
            sm_clock_mhz=identity.sm_clock_mhz_requested,
            mem_clock_mhz=identity.mem_clock_mhz_requested,
            power_limit_w=identity.power_limit_w_requested,
        )
    )
    clock.sleep(SETTLE_S)

    on_phase("warming up")
    warmup = _until(is_cancelled, iter(requests[: procedure.num_warmup_requests]))
    bench.engine.run(warmup, identity.concurrency, procedure.sampling, deadline_s=procedure.deadline_s)
    if not bench.engine.reset_prefix_cache():
        # Nothing is in flight, so the engine has no reason to refuse; cached prompts would make prefill look free.
        raise RuntimeError("the engine refused to forget its prefix cache although nothing is in flight")

    on_phase("measuring")
    counter_start = _mark_tick(bench.sampler)
    rounds = _repeat_rounds(requests, clock, procedure.min_window_s)
    run = bench.engine.run(
        _until(is_cancelled, rounds),
        identity.concurrency,
        procedure.sampling,
        deadline_s=procedure.deadline_s,
        on_progress=on_progress,
    )
    if is_cancelled():
        raise CancelledError
    counter_end = _mark_tick(bench.sampler)
    covered_ns = max(run.end_ns, counter_end.time_ns if counter_end else 0)
    bench.sampler.wait_covered(covered_ns)
    if bench.sampler.error is not None:
        raise bench.sampler.error
    margin_ns = round(TRACE_MARGIN_S * 1e9)
    first_ns = min(run.start_ns, counter_start.time_ns if counter_start else run.start_ns) - margin_ns
    power = bench.sampler.take().filter(pl.col("time_ns").is_between(first_ns, covered_ns + margin_ns))
    return Measurement(
        identity=identity,
        placement=bench.placement,
        start_ns=run.start_ns,
        end_ns=run.end_ns,
        completions=run.completions,
        steps=run.steps,
        power=power,
        counter_start=counter_start,
        counter_end=counter_end,
        idle_power_w=idle_power_w,
        pace_lost_s=run.pace_lost_s,
    )


def measure_idle_power(sampler: PowerSampler, clock: Clock) -> float | None:
    """Return the board's mean power over `IDLE_S` with nothing to do, in W; None without a power sample."""
    start_ns = clock.now_ns()
    clock.sleep(IDLE_S)
    end_ns = clock.now_ns()
    sampler.wait_covered(end_ns)
    samples = sampler.take().filter(pl.col("time_ns").is_between(start_ns, end_ns))["power_w"].drop_nulls()
    mean_w = samples.mean()
    return mean_w if isinstance(mean_w, float) else None


def _mark_tick(sampler: PowerSampler) -> CounterTick | None:
    tick = sampler.mark_counter_tick()
    return CounterTick(time_ns=tick[0], energy_j=tick[1]) if tick else None


def _until(is_cancelled: Callable[[], bool], requests: Iterator[Request]) -> Iterator[Request]:
    for request in requests:
        if is_cancelled():
            return
        yield request


def _repeat_rounds(requests: Sequence[Request], clock: Clock, min_window_s: float) -> Iterator[Request]:
    """Whole rounds only, so that every window holds the same mix of prompts whatever the clock."""
    start_ns = clock.now_ns()
    while True:
        yield from requests
        if (clock.now_ns() - start_ns) * 1e-9 >= min_window_s:
            return
