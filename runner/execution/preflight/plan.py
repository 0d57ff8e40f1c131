"""What a sweep would do: every trial, the clock that it becomes on the GPU, and about how long and how much energy.

Estimates come from the GPU model (docs/physics.md): the fitted H200 for a model of the same shape where the shape is
known, else for a stand-in. They say whether a sweep takes minutes or days, and nothing finer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from runner.analysis.window.phases import MIN_BATCHES
from runner.execution.worker.engines import find_modelled_shape
from runner.hardware.gpu import ClockRequest, GpuError, GpuInfo
from runner.hardware.operating_point import resolve_clocks
from runner.physics.gpu_model import GpuModel, OperatingPoint, find_gpu_model, load_gpu_model
from runner.physics.shape import ModelShape, decode_work, get_shape, prefill_work
from runner.results.plan import Plan, PlannedTrial
from runner.spec.request import RequestKind, paired_length
from runner.spec.sweep import ModelSpec, SweepSpec, TaskSpec
from runner.spec.trial import Block, Point, Trial
from runner.tasks.loading import describe_task

OVERHEAD_S = 1.0
"""Settling, ticks of the counter and the trace's margin, for each trial."""
ASSUMED_DOCUMENTS, ASSUMED_CHOICES = 1000, 4
ASSUMED_PROMPT_TOKENS, ASSUMED_OUTPUT_TOKENS = 200, 64
"""Where a task does not say before its data is read."""
LOAD_S = 75.0
"""For each model and GPU; measured on H200s: 39 to 67 s alone, 63 to 100 s where two loaded at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    kind: RequestKind
    num_prompt_tokens: int
    num_output_tokens: int
    num_requests: int


def plan_sweep(
    sweep: SweepSpec, blocks: Sequence[Block], gpus: Sequence[GpuInfo], *, read_only: bool, finished: frozenset[str]
) -> Plan:
    """Return what would run, in order. Raises: TaskError: no such task."""
    works = {task.display_name: _estimate_work(task, sweep) for task in sweep.task}
    shapes = {model.label: get_shape(find_modelled_shape(model)) for model in sweep.model}
    gpu = gpus[0]
    gpu_model = load_gpu_model(find_gpu_model(gpu.name))

    @cache
    def resolve(point: Point) -> tuple[ClockRequest, str | None]:
        try:
            return resolve_clocks(gpu, point.sm_clock, point.mem_clock, point.power_limit), None
        except (GpuError, ValueError) as error:
            return ClockRequest(), str(error)

    trials: list[PlannedTrial] = []
    for block in blocks:
        work, shape = _cut(works[block.task.display_name], block.model), shapes[block.model.label]
        # Repeats share a point's estimate: it is made once a block, not once a trial.
        estimates = {}
        # Static batches are not bound to whole rounds of the prompts.
        is_static = block.task.phases == "static_batches"
        in_flight = block.load.concurrency if is_static else min(block.load.concurrency, work.num_requests)
        num_waves = 1.0 if is_static else work.num_requests / in_flight
        for point, role in {(trial.point, trial.phase_role) for trial in block.trials}:
            request, problem = resolve(point)
            own_work = replace(work, num_output_tokens=paired_length(work.num_output_tokens, role))
            wave = _estimate_wave(gpu_model, shape, own_work, in_flight, request)
            estimates[point, role] = (request, problem, *_estimate_trial(wave, num_waves, block.task, sweep))
        trials += [_plan_trial(trial, *estimates[trial.point, trial.phase_role]) for trial in block.trials]
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
    trial: Trial, request: ClockRequest, problem: str | None, duration_s: float, energy_j: float
) -> PlannedTrial:
    return PlannedTrial(
        trial_id=trial.trial_id,
        block_id=trial.block_id,
        model=trial.model.label,
        task=trial.task.display_name,
        load=trial.load,
        repeat=trial.repeat,
        is_sentinel=trial.is_sentinel,
        sm_clock_mhz=request.sm_clock_mhz,
        mem_clock_mhz=request.mem_clock_mhz,
        power_limit_w=request.power_limit_w,
        problem=problem,
        estimated_duration_s=duration_s,
        estimated_energy_j=energy_j,
    )


def _estimate_wave(
    gpu_model: GpuModel, shape: ModelShape, work: _Work, in_flight: int, request: ClockRequest
) -> tuple[float, float]:
    """Seconds and joules of a wave: so many prompts, prefilled whole in one step and then decoded together."""
    point = OperatingPoint(
        sm_clock_mhz=request.sm_clock_mhz, mem_clock_mhz=request.mem_clock_mhz, power_limit_w=request.power_limit_w
    )
    prefill = gpu_model.step(shape, prefill_work(in_flight, work.num_prompt_tokens), point)
    wave_s, wave_j = prefill.duration_s, prefill.duration_s * prefill.power_w
    if work.kind == "generate" and work.num_output_tokens > 1:
        context = work.num_prompt_tokens + work.num_output_tokens / 2
        decode = gpu_model.step(shape, decode_work(in_flight, context), point)
        wave_s += (work.num_output_tokens - 1) * decode.duration_s
        wave_j += (work.num_output_tokens - 1) * decode.duration_s * decode.power_w
    return wave_s, wave_j


def _estimate_trial(
    wave: tuple[float, float], num_waves: float, task: TaskSpec, sweep: SweepSpec
) -> tuple[float, float]:
    """Seconds and joules of a trial: one wave to warm up, whole rounds of `num_waves`, and the time around them."""
    wave_s, wave_j = wave
    if task.repeat_each_s is not None:
        num_waves *= max(math.ceil(task.repeat_each_s / wave_s), 1)
    min_rounds = MIN_BATCHES if task.phases == "static_batches" else 1
    num_rounds = max(math.ceil(sweep.min_window_s / (num_waves * wave_s)), min_rounds)
    total_waves = 1 + num_rounds * num_waves
    return total_waves * wave_s + OVERHEAD_S, total_waves * wave_j


def _estimate_work(task: TaskSpec, sweep: SweepSpec) -> _Work:
    if task.is_synthetic:
        return _Work(
            kind="generate",
            num_prompt_tokens=task.num_prompt_tokens or 1,
            num_output_tokens=task.num_output_tokens or 1,
            num_requests=task.num_requests or 1,
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
    """What a request generates: a set length, or what is usual, as far as the limit lets it."""
    limit = task.max_output_tokens or sweep.max_output_tokens
    if limit is not None and (sweep.fixed_output_length or usual is None):
        return limit
    return round(min(ASSUMED_OUTPUT_TOKENS if usual is None else usual, limit or math.inf))


def _cut(work: _Work, model: ModelSpec) -> _Work:
    """The work as a model sees it: a prompt beyond the length that its engine is given is cut."""
    max_model_len = model.engine.get("max_model_len")
    if not isinstance(max_model_len, int):
        return work
    room = max(max_model_len - work.num_output_tokens, 1)
    return replace(work, num_prompt_tokens=min(work.num_prompt_tokens, room))
