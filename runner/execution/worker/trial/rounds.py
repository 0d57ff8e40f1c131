"""The order of requests in a window: whole rounds, each prompt repeated, or static batches.

One round of a task's requests enters. The requests of a window leave. Next: `measure.py` hands them to the engine.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from runner.inference.engine import Engine, EngineRun, Sampling
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion, PhaseRole, Request, paired_length
from runner.spec.trial import MIN_BATCHES
from runner.timebase import TimeSource

EdgesNs = tuple[tuple[int, int], ...]


def shorten(requests: Sequence[Request], role: PhaseRole | None) -> Sequence[Request]:
    """Return the requests of a paired trial: the same prompts, with fewer tokens to generate."""
    if role is None:
        return requests
    return [replace(request, max_output_tokens=paired_length(request.max_output_tokens, role)) for request in requests]


def until_interrupted(is_interrupted: Callable[[], bool], requests: Iterator[Request]) -> Iterator[Request]:
    """Yield the requests until `is_interrupted` returns True. It is called before each request."""
    for request in requests:
        if is_interrupted():
            return
        yield request


def shuffle_samples(requests: Sequence[Request], seed: str) -> Sequence[Request]:
    """Return a round in random order; the requests of a sample stay together.

    A window that may be cut runs its samples in an order of its own, so that it holds a random part of them. Then the
    trials of an operating point scatter by what the prompts differ in, and their interval covers it.
    """
    by_sample: dict[str, list[Request]] = {}
    for request in requests:
        by_sample.setdefault(request.sample_id, []).append(request)
    groups = list(by_sample.values())
    random.Random(seed).shuffle(groups)
    return [request for group in groups for request in group]


def repeat_rounds(
    requests: Sequence[Request],
    time_source: TimeSource,
    *,
    min_window_s: float,
    max_window_s: float | None = None,
    repeat_each_s: float | None = None,
) -> Iterator[Request]:
    """Yield whole rounds until `min_window_s` have passed, so that every window holds the same mix of prompts.

    Args:
        max_window_s: the time in s after which no more requests are yielded, even within a round; None for no limit.
        repeat_each_s: how long each prompt of a round is repeated before the next one, in s.
    """
    start_ns = time_source.now_ns()
    while True:
        for request in requests:
            if max_window_s is not None and (time_source.now_ns() - start_ns) * 1e-9 >= max_window_s:
                return
            yield from _repeat(request, time_source, repeat_each_s or 0.0)
        if (time_source.now_ns() - start_ns) * 1e-9 >= min_window_s:
            return


def run_batches(
    engine: Engine,
    requests: Sequence[Request],
    load: ClosedLoop,
    sampling: Sampling,
    time_source: TimeSource,
    *,
    min_window_s: float,
    deadline_s: float,
    on_progress: Callable[[int, int], None] | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> tuple[EngineRun, EdgesNs]:
    """Run static batches back to back: the requests of a batch start together, and all end before the next batch.

    Args:
        min_window_s: how long batches start, in s, and longer until an interval has enough batches. The last one ends.
        deadline_s: the limit for all batches together, in s.
    Returns: the batches as one run, and the start and end of each in ns since the epoch.
    """
    source = cycle(requests)
    runs: list[EngineRun] = []
    start_ns = time_source.now_ns()
    elapsed_s = 0.0
    while elapsed_s < (deadline_s if len(runs) < MIN_BATCHES else min(min_window_s, deadline_s)):
        if is_interrupted():
            break
        runs.append(
            engine.run(
                until_interrupted(is_interrupted, islice(source, load.concurrency)),
                load,
                sampling,
                deadline_s=deadline_s - elapsed_s,
                on_progress=on_progress and _add_progress(on_progress, runs),
            )
        )
        elapsed_s = (time_source.now_ns() - start_ns) * 1e-9
    return _join(runs, start_ns), tuple((run.start_ns, run.end_ns) for run in runs)


def _repeat(request: Request, time_source: TimeSource, min_s: float) -> Iterator[Request]:
    yield request
    # Counted from the end of the first one: the engine stamps its start a moment after it leaves this generator.
    start_ns = time_source.now_ns()
    while (time_source.now_ns() - start_ns) * 1e-9 < min_s:
        yield request


def _add_progress(on_progress: Callable[[int, int], None], runs: Sequence[EngineRun]) -> Callable[[int, int], None]:
    """Return a callback that adds the work of the batches before."""
    before = [completion for run in runs for completion in run.completions]
    num_tokens_before = sum(completion.num_output_tokens for completion in before)
    return lambda num_requests, num_tokens: on_progress(len(before) + num_requests, num_tokens_before + num_tokens)


def _join(runs: Sequence[EngineRun], start_ns: int) -> EngineRun:
    lost_s = [run.pace_lost_s for run in runs if run.pace_lost_s is not None]
    return EngineRun(
        start_ns=runs[0].start_ns if runs else start_ns,
        end_ns=runs[-1].end_ns if runs else start_ns,
        completions=_number_rounds(runs),
        steps=[step for run in runs for step in run.steps],
        pace_lost_s=sum(lost_s) if lost_s else None,
    )


def _number_rounds(runs: Sequence[EngineRun]) -> list[Completion]:
    """Number the rounds of each request across batches. Each run counts them from 0."""
    before: Counter[str] = Counter()
    completions: list[Completion] = []
    for run in runs:
        completions += [replace(c, round=before[c.request_id] + c.round) for c in run.completions]
        before.update(completion.request_id for completion in run.completions)
    return completions
