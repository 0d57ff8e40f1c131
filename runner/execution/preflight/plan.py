"""The plan of a sweep: every trial with its operating point on the GPU, and an estimate of its duration and energy.

Estimates come from the GPU model (docs/physics.md) of a fitted H200 and the shape of the model, or a modelled shape.
They tell minutes from days, and no more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from runner.hardware.gpu import GpuError, GpuInfo
from runner.hardware.operating_point import resolve_operating_point
from runner.inference.arrivals import explain_too_long
from runner.physics.gpu_model import GpuModel, find_gpu_model, load_gpu_model
from runner.physics.shape import ModelShape, decode_work, find_modelled_shape, get_shape, prefill_work
from runner.results.plan import Plan, PlannedTrial
from runner.spec.load import ClosedLoop, OpenLoop, Replay
from runner.spec.model import ModelSpec
from runner.spec.operating_point import OperatingPoint, RequestedPoint
from runner.spec.request import RequestKind, paired_length
from runner.spec.sweep import SweepSpec, TaskSpec
from runner.spec.trial import MIN_BATCHES, Block, Trial
from runner.spec.values import count_requests
from runner.tasks.loading import describe_task

OVERHEAD_S = 1.0
"""Settling, ticks of the energy counter and the trace before the window, for each trial."""
ASSUMED_DOCUMENTS, ASSUMED_CHOICES = 1000, 4
ASSUMED_PROMPT_TOKENS, ASSUMED_OUTPUT_TOKENS = 200, 64
"""For tasks that are known only once their data is read."""
ASSUMED_MOST_IN_FLIGHT = 256
"""vLLM's usual limit."""
LOAD_S = 75.0
"""For each model and GPU. Measured on H200s: 39 to 67 s alone, 63 to 100 s where two load at once."""


_WaveOf = Callable[[int], tuple[float, float]]
"""Seconds and joules of a wave of some requests in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    kind: RequestKind
    num_prompt_tokens: int
    num_output_tokens: int
    num_requests: int


def plan_sweep(
    sweep: SweepSpec, blocks: Sequence[Block], gpus: Sequence[GpuInfo], *, read_only: bool, finished: frozenset[str]
) -> Plan:
    """Return the trials that would run, in order. Raises: TaskError: there is no such task."""
    works = {task: _estimate_work(task, sweep) for task in dict.fromkeys(block.task for block in blocks)}
    shapes = {model.label: get_shape(find_modelled_shape(model.id, model.twin)) for model in sweep.models}
    gpu = gpus[0]
    gpu_model = load_gpu_model(find_gpu_model(gpu.name))

    @cache
    def resolve(requested: RequestedPoint) -> tuple[OperatingPoint, str | None]:
        try:
            return resolve_operating_point(gpu, requested), None
        except (GpuError, ValueError) as error:
            return OperatingPoint(), str(error)

    trials: list[PlannedTrial] = []
    for block in blocks:
        work, shape = _cut(works[block.task], block.model), shapes[block.model.label]
        # Repeats share the estimate of their operating point.
        estimates = {}
        for requested, role in {(trial.requested_point, trial.phase_role) for trial in block.trials}:
            operating_point, problem = resolve(requested)
            own_work = replace(work, num_output_tokens=paired_length(work.num_output_tokens, role))
            wave_of = partial(_estimate_wave, gpu_model, shape, own_work, operating_point=operating_point)
            if isinstance(block.load, ClosedLoop):
                estimate = _estimate_trial(wave_of, own_work, block.load, block.task, sweep)
            else:
                idle_w = gpu_model.idle_power_w(operating_point.sm_clock_mhz, operating_point.mem_clock_mhz)
                estimate = _estimate_open_trial(wave_of, own_work, block.load, idle_w, sweep)
                if isinstance(block.load, OpenLoop) and block.load.request_rate_per_s is not None:
                    limit_s = sweep.limits.trial_s
                    problem = problem or explain_too_long(block.load, own_work.num_requests, estimate[0], limit_s)
            estimates[requested, role] = (operating_point, problem, *estimate)
        trials += [_plan_trial(trial, *estimates[trial.requested_point, trial.phase_role]) for trial in block.trials]
    left = [trial for trial in trials if trial.trial_id not in finished]
    num_loads = len({trial.model for trial in left})
    return Plan(
        name=sweep.name,
        gpu_names=tuple(info.name for info in gpus),
        simulated=any(info.simulated for info in gpus),
        read_only=read_only,
        trials=tuple(trials),
        num_finished=len(trials) - len(left),
        estimated_duration_s=sum(trial.estimated_duration_s for trial in left) / len(gpus) + num_loads * LOAD_S,
        estimated_energy_j=sum(trial.estimated_energy_j for trial in left),
    )


def _plan_trial(
    trial: Trial, operating_point: OperatingPoint, problem: str | None, duration_s: float, energy_j: float
) -> PlannedTrial:
    return PlannedTrial(
        trial_id=trial.trial_id,
        block_id=trial.block_id,
        model=trial.model.label,
        task=trial.task.display_name,
        load=trial.load,
        repeat=trial.repeat,
        is_sentinel=trial.is_sentinel,
        operating_point=operating_point,
        problem=problem,
        estimated_duration_s=duration_s,
        estimated_energy_j=energy_j,
    )


def _estimate_wave(
    gpu_model: GpuModel, shape: ModelShape, work: _Work, in_flight: int, *, operating_point: OperatingPoint
) -> tuple[float, float]:
    """Return seconds and joules of a wave: `in_flight` prompts, prefilled in one step and then decoded together."""
    prefill = gpu_model.step(shape, prefill_work(in_flight, work.num_prompt_tokens), operating_point)
    wave_s, wave_j = prefill.duration_s, prefill.duration_s * prefill.power_w
    if work.kind == "generate" and work.num_output_tokens > 1:
        context = work.num_prompt_tokens + work.num_output_tokens / 2
        decode = gpu_model.step(shape, decode_work(in_flight, context), operating_point)
        wave_s += (work.num_output_tokens - 1) * decode.duration_s
        wave_j += (work.num_output_tokens - 1) * decode.duration_s * decode.power_w
    return wave_s, wave_j


def _estimate_trial(
    wave_of: _WaveOf, work: _Work, load: ClosedLoop, task: TaskSpec, sweep: SweepSpec
) -> tuple[float, float]:
    """Return seconds and joules of a trial: a wave to warm up, whole rounds of waves, and the overhead."""
    # Windows of static batches need not hold whole rounds.
    is_static = task.phases == "static_batches"
    in_flight = load.concurrency if is_static else min(load.concurrency, work.num_requests)
    num_waves = 1.0 if is_static else work.num_requests / in_flight
    wave_s, wave_j = wave_of(in_flight)
    if task.repeat_each_s is not None:
        num_waves *= max(math.ceil(task.repeat_each_s / wave_s), 1)
    min_rounds = MIN_BATCHES if task.phases == "static_batches" else 1
    num_rounds = max(math.ceil(sweep.min_window_s / (num_waves * wave_s)), min_rounds)
    num_measured = num_rounds * num_waves
    if sweep.max_window_s is not None and task.phases != "static_batches":
        num_measured = min(num_measured, sweep.max_window_s / wave_s + 1)  # the last wave starts before and ends
    total_waves = 1 + num_measured
    return total_waves * wave_s + OVERHEAD_S, total_waves * wave_j


def _estimate_open_trial(
    wave_of: _WaveOf, work: _Work, load: OpenLoop | Replay, idle_w: float, sweep: SweepSpec
) -> tuple[float, float]:
    """Return seconds and joules of a trial whose requests arrive at a rate: ramp, window and the last requests' end.

    By Little's law the requests in flight are the rate times their latency, which rises with their number.
    """
    rate_per_s = load.request_rate_per_s
    if isinstance(load, OpenLoop) and rate_per_s is None:
        # The capacity is about what the most requests in flight reach.
        most_s, _ = wave_of(ASSUMED_MOST_IN_FLIGHT)
        rate_per_s = (load.capacity_fraction or 0.0) * ASSUMED_MOST_IN_FLIGHT / most_s
    assert rate_per_s is not None
    in_flight = 1
    while in_flight < ASSUMED_MOST_IN_FLIGHT and rate_per_s * wave_of(in_flight)[0] > in_flight:
        in_flight += max(in_flight // 8, 1)
    wave_s, wave_j = wave_of(in_flight)
    # A trace is replayed once.
    num_rounds = (
        max(math.ceil(rate_per_s * sweep.min_window_s / work.num_requests), 1) if isinstance(load, OpenLoop) else 1
    )
    num_requests = num_rounds * work.num_requests
    window_s = num_requests / rate_per_s
    busy_s = min(num_requests / in_flight * wave_s, window_s)
    total_s = sweep.ramp_of_open_loops_s + window_s + wave_s + OVERHEAD_S
    window_j = num_requests / in_flight * wave_j + idle_w * (window_s - busy_s)
    return total_s, window_j * total_s / window_s


def _estimate_work(task: TaskSpec, sweep: SweepSpec) -> _Work:
    if task.trace is not None:
        trace = task.read_trace()
        num_requests = len(trace.arrival_s)
        return _Work(
            kind="generate",
            num_prompt_tokens=round(sum(trace.num_prompt_tokens) / num_requests),
            num_output_tokens=round(sum(trace.num_output_tokens) / num_requests),
            num_requests=num_requests,
        )
    if task.is_synthetic:
        return _Work(
            kind="generate",
            num_prompt_tokens=task.num_prompt_tokens or 1,
            num_output_tokens=task.num_output_tokens or 1,
            num_requests=count_requests(task.num_requests or 1, 1),
        )
    about = describe_task(task.name)
    num_choices = about.num_requests_per_document or (1 if about.request_kind == "generate" else ASSUMED_CHOICES)
    num_documents = min(task.limit or math.inf, about.num_documents or task.limit or ASSUMED_DOCUMENTS)
    return _Work(
        kind=about.request_kind,
        num_prompt_tokens=round(about.num_prompt_tokens_mean or ASSUMED_PROMPT_TOKENS),
        num_output_tokens=_estimate_output_tokens(task, sweep, about.num_output_tokens_mean),
        num_requests=round(num_documents) * num_choices,
    )


def _estimate_output_tokens(task: TaskSpec, sweep: SweepSpec, usual: float | None) -> int:
    """Return how many tokens a request generates: the fixed length, or the usual one within the limit."""
    limit = task.max_output_tokens or sweep.max_output_tokens
    if limit is not None and (sweep.fixed_output_length or usual is None):
        return limit
    return round(min(ASSUMED_OUTPUT_TOKENS if usual is None else usual, limit or math.inf))


def _cut(work: _Work, model: ModelSpec) -> _Work:
    """Return the work of a model. Its engine cuts prompts that are longer than its context."""
    max_model_len = model.engine.get("max_model_len")
    if not isinstance(max_model_len, int):
        return work
    room = max(max_model_len - work.num_output_tokens, 1)
    return replace(work, num_prompt_tokens=min(work.num_prompt_tokens, room))
