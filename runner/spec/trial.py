"""Trials: a sweep expanded to one point, once, each with an id that a later run finds again.

A `SweepSpec` enters, blocks of trials leave. A block holds the trials that differ only in operating point and repeat;
it is dispatched whole and never leaves its GPU. Next: execution.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import get_args

from runner.spec.load import ClosedLoop, Load
from runner.spec.request import PhaseRole
from runner.spec.sweep import AxesSpec, ModelSpec, SweepSpec, TaskSpec
from runner.spec.values import DEFAULT, ClockValue

_ROLES: dict[str, PhaseRole] = {role: role for role in get_args(PhaseRole)}

_IN_IDS = {"seed", "min_window_s", "max_output_tokens", "fixed_output_length", "num_warmup_requests", "sampling"}
"""What all trials of a sweep share and their ids depend on."""
MAX_ATTEMPTS = 2
"""A trial is measured once more, at most, after a verdict that another try may find gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """An operating point as the sweep file says it, before it is snapped to what a GPU supports."""

    sm_clock: ClockValue = DEFAULT
    mem_clock: ClockValue = DEFAULT
    power_limit: float | str = DEFAULT

    @property
    def is_default(self) -> bool:
        """Whether nothing is to be set."""
        return (self.sm_clock, self.mem_clock, self.power_limit) == (DEFAULT, DEFAULT, DEFAULT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One operating point of one block, measured once."""

    trial_id: str
    """16 hexadecimal digits: the hash of everything that is asked for, and of the repeat's or sentinel's number."""
    block_id: str
    model: ModelSpec
    task: TaskSpec
    load: Load
    point: Point
    repeat: int
    """Counts repeats from 0; among sentinels, the sentinel's number."""
    is_sentinel: bool
    phase_role: PhaseRole | None = None
    """Of a paired trial, measured beside the trial of the same point and repeat to tell prefill from decoding."""


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

    Blocks of one model stand together, so that an engine is loaded once; inside a model their order is shuffled.
    Inside a block each repeat visits every point in an order of its own. Where there is more than the default point,
    default-clock sentinels open and close the block and stand after every `sentinel_every` trials. A trial and its
    paired trials (`phases = "output_lengths"`) stand side by side, in an order drawn each time, and count as one. All
    orders follow from the seed alone.

    Args:
        sweep: the validated sweep file.
        read_only: clocks may not be set, so only the default operating point is left on the axes.
    """
    blocks: list[Block] = []
    for model in sweep.model:
        of_model = []
        for task in sweep.task:
            axes = sweep.axes_of(model, task)
            points = [Point()] if read_only else _points(axes)
            loads = [ClosedLoop(concurrency=concurrency) for concurrency in axes.concurrency]
            of_model += [_expand_block(sweep, model, task, load, points) for load in loads]
        random.Random(f"{sweep.seed}/{model.id}").shuffle(of_model)
        blocks += of_model
    return blocks


def _expand_block(sweep: SweepSpec, model: ModelSpec, task: TaskSpec, load: Load, points: list[Point]) -> Block:
    content = {
        **sweep.model_dump(mode="json", include=_IN_IDS),
        "model": model.model_dump(mode="json", exclude_defaults=True),
        "task": task.model_dump(mode="json", exclude_defaults=True, exclude={"label"}),
    }
    block_id = _digest(content, load.key)
    # A point's part of the ids is hashed once, not once for each repeat: sweeps have 100,000 trials.
    marks = {p: _digest(block_id, p.sm_clock, p.mem_clock, p.power_limit) for p in (Point(), *points)}
    trials = tuple(
        Trial(
            trial_id=_hash(f"{marks[point]}/{kind}/{number}"),
            block_id=block_id,
            model=model,
            task=task,
            load=load,
            point=point,
            repeat=number,
            is_sentinel=kind == "sentinel",
            phase_role=_ROLES.get(kind),
        )
        for point, kind, number in _order(points, sweep, task, random.Random(f"{sweep.seed}/{block_id}"))
    )
    return Block(block_id=block_id, model=model, task=task, load=load, trials=trials)


def _order(
    points: list[Point], sweep: SweepSpec, task: TaskSpec, rng: random.Random
) -> Iterator[tuple[Point, str, int]]:
    needs_sentinels = any(not point.is_default for point in points)
    num_sentinels = num_since = 0
    if needs_sentinels:
        yield Point(), "sentinel", 0
        num_sentinels = 1
    for repeat in range(sweep.repeats):
        for point in rng.sample(points, len(points)):
            if needs_sentinels and num_since == sweep.sentinel_every:
                yield Point(), "sentinel", num_sentinels
                num_sentinels, num_since = num_sentinels + 1, 0
            if task.phases == "output_lengths":
                side_by_side = rng.sample(("repeat", *_ROLES), 3)
                yield from ((point, kind, repeat) for kind in side_by_side)
            else:
                yield point, "repeat", repeat
            num_since += 1
    if needs_sentinels:
        yield Point(), "sentinel", num_sentinels


def _points(axes: AxesSpec) -> list[Point]:
    return [
        Point(sm_clock=sm_clock, mem_clock=mem_clock, power_limit=power_limit)
        for mem_clock, power_limit, sm_clock in product(axes.mem_clock, axes.power_limit, axes.sm_clock)
    ]


def _digest(*parts: object) -> str:
    return _hash(json.dumps(parts, sort_keys=True, separators=(",", ":")))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
