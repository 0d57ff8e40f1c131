"""Trials: what a sweep expands to, each with an id that a later run finds again.

A `SweepSpec` enters, blocks of trials leave. A block holds the trials that differ only in operating point and repeat.
The driver deals out whole blocks, and a block stays on its GPU. Next: execution.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import get_args

from runner.spec.axes import AxesSpec
from runner.spec.load import ClosedLoop, Load, Replay
from runner.spec.model import ModelSpec
from runner.spec.operating_point import DEFAULT, RequestedPoint
from runner.spec.request import PhaseRole
from runner.spec.serving.slo import Slo
from runner.spec.sweep import SweepSpec, TaskSpec

_ROLES: dict[str, PhaseRole] = {role: role for role in get_args(PhaseRole)}

_IN_IDS = {"seed", "min_window_s", "max_output_tokens", "fixed_output_length", "num_warmup_requests", "sampling"}
"""The settings that all trials of a sweep share and that their ids depend on."""
MAX_ATTEMPTS = 2
"""A trial is measured at most once more, after a verdict that may not come back."""
MIN_BATCHES = 3
"""Static batches in a window, at least. Fewer give no interval for prefill and decoding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One window of one workload at one operating point."""

    trial_id: str
    """16 hexadecimal digits: the hash of everything that is asked for, and of the number of the repeat or sentinel."""
    block_id: str
    model: ModelSpec
    task: TaskSpec
    load: Load
    requested_point: RequestedPoint
    repeat: int
    """Counts from 0, for sentinels apart from the other trials."""
    is_sentinel: bool
    phase_role: PhaseRole | None = None
    """The role of a paired trial. It stands beside the trial with the same operating point and repeat."""
    slo: Slo | None = None
    """What each of its requests must keep; None where nothing is promised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Trials that differ only in operating point and repeat, in the order in which they run."""

    block_id: str
    model: ModelSpec
    task: TaskSpec
    load: Load
    trials: tuple[Trial, ...]


def make_row_id(trial_id: str, attempt: int) -> str:
    """Return the id of a trial's row, which names its files: a second attempt has a row of its own."""
    return trial_id if attempt == 1 else f"{trial_id}-{attempt}"


def expand_trials(sweep: SweepSpec, *, read_only: bool = False) -> list[Block]:
    """Expand a sweep to its blocks.

    Blocks of one model stand together, so that its engine is loaded once. Their order within the model is shuffled.
    Within a block, each repeat visits every operating point in an order of its own. Sentinels open and close a block
    with more than the default operating point, and follow every `sentinel_every` trials. A trial and its paired trials
    (`phases = "output_lengths"`) stand side by side in random order, and count as one. The seed alone decides all
    orders.

    Args:
        sweep: the validated sweep file.
        read_only: clocks may not be set, so only the default operating point remains.
    """
    blocks: list[Block] = []
    for model in sweep.models:
        of_model = []
        for task in sweep.task:
            axes = sweep.axes_of(model, task)
            points = [RequestedPoint()] if read_only else _points(axes)
            of_model += [
                _expand_block(sweep, model, task.for_load(load), load, points) for load in sweep.loads_of(model, task)
            ]
        random.Random(f"{sweep.seed}/{model.id}").shuffle(of_model)
        blocks += of_model
    return blocks


def _expand_block(
    sweep: SweepSpec, model: ModelSpec, task: TaskSpec, load: Load, points: list[RequestedPoint]
) -> Block:
    content = {
        **sweep.model_dump(mode="json", include=_IN_IDS),
        **sweep.model_dump(mode="json", include={"max_window_s"}, exclude_none=True),
        "model": model.content(),
        "task": task.model_dump(mode="json", exclude_defaults=True, exclude={"label", "trace"}),
        **_open_loop_settings(sweep, task, load),
    }
    block_id = _digest(content, load.key)
    # Hashing each operating point once, and not for each repeat, counts in sweeps of 100,000 trials.
    marks = {point: _mark(block_id, point) for point in (RequestedPoint(), *points)}
    trials = tuple(
        Trial(
            trial_id=_hash(f"{marks[point]}/{kind}/{number}"),
            block_id=block_id,
            model=model,
            task=task,
            load=load,
            requested_point=point,
            repeat=number,
            is_sentinel=kind == "sentinel",
            phase_role=_ROLES.get(kind),
            slo=sweep.slo_of(task),
        )
        for point, kind, number in _order(points, sweep, task, random.Random(f"{sweep.seed}/{block_id}"))
    )
    return Block(block_id=block_id, model=model, task=task, load=load, trials=trials)


def _open_loop_settings(sweep: SweepSpec, task: TaskSpec, load: Load) -> dict[str, object]:
    """Return what the ids of only some trials depend on: the ramp of an open loop, and an SLO where there is one."""
    slo = sweep.slo_of(task)
    settings: dict[str, object] = {} if slo is None else {"slo": slo.model_dump(mode="json", exclude_defaults=True)}
    if isinstance(load, Replay):
        settings |= {"trace": load.digest}
    return settings if isinstance(load, ClosedLoop) else settings | {"ramp_s": sweep.ramp_of_open_loops_s}


def _order(
    points: list[RequestedPoint], sweep: SweepSpec, task: TaskSpec, rng: random.Random
) -> Iterator[tuple[RequestedPoint, str, int]]:
    needs_sentinels = any(not point.is_default for point in points)
    num_sentinels = num_since = 0
    if needs_sentinels:
        yield RequestedPoint(), "sentinel", 0
        num_sentinels = 1
    for repeat in range(sweep.repeats):
        for point in rng.sample(points, len(points)):
            if needs_sentinels and num_since == sweep.sentinel_every:
                yield RequestedPoint(), "sentinel", num_sentinels
                num_sentinels, num_since = num_sentinels + 1, 0
            if task.phases == "output_lengths":
                side_by_side = rng.sample(("repeat", *_ROLES), 3)
                yield from ((point, kind, repeat) for kind in side_by_side)
            else:
                yield point, "repeat", repeat
            num_since += 1
    if needs_sentinels:
        yield RequestedPoint(), "sentinel", num_sentinels


def _points(axes: AxesSpec) -> list[RequestedPoint]:
    points = (
        RequestedPoint(
            sm_clock=sm_clock,
            mem_clock=mem_clock,
            power_limit=power_limit,
            clock_lock="pinned" if sm_clock == DEFAULT else clock_lock,
        )
        for mem_clock, power_limit, clock_lock, sm_clock in product(
            axes.mem_clock, axes.power_limit, axes.clock_lock, axes.sm_clock
        )
    )
    return list(dict.fromkeys(points))


def _mark(block_id: str, point: RequestedPoint) -> str:
    """Return the part of a trial's id that its block and its operating point make."""
    lock = [] if point.clock_lock == "pinned" else [point.clock_lock]
    return _digest(block_id, point.sm_clock, point.mem_clock, point.power_limit, *lock)


def _digest(*parts: object) -> str:
    return _hash(json.dumps(parts, sort_keys=True, separators=(",", ":")))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
