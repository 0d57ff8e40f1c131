"""The sensors under a first load: some irregular spells of work on a board that rests before, between and after.

A bench and what the probe found of the board at rest enter; better findings leave, before the first window opens. Over
what a reading averages shows only in how it follows a step of power, and against which other source.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle

from runner.execution.worker.measure import Bench, CancelledError, Procedure
from runner.execution.worker.rounds import until_cancelled
from runner.hardware.sensors.probe import find_sensors, refine_findings
from runner.hardware.sensors.watch import SensorWatch
from runner.results.sensors import SensorFindings
from runner.spec.request import Request
from runner.timebase import Clock

REST_BEFORE_S = 1.1
"""The longest average that is known, and an update."""
SPELLS_S = ((0.43, 0.31), (0.17, 0.59), (0.71, 1.23))
"""(work, rest), some five seconds in all: of different lengths, so that no step falls on the same place of a period as
another; the last rest is longer than the longest average."""
MAX_OUTPUT_TOKENS = 16
"""A spell ends when its last request has."""


def watch_first_load(
    bench: Bench,
    requests: Sequence[Request],
    concurrency: int,
    procedure: Procedure,
    at_rest: SensorFindings,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> SensorFindings:
    """Let the engine work and rest for some five seconds, and return what is known of the sensors by then.

    Raises: EngineError, CancelledError; GpuLostError: the board no longer answers.
    """
    short = [
        replace(request, max_output_tokens=min(request.max_output_tokens, MAX_OUTPUT_TOKENS)) for request in requests
    ]
    clock = bench.clock
    with SensorWatch(bench.gpu, clock) as watch:
        clock.sleep(REST_BEFORE_S)
        for work_s, rest_s in SPELLS_S:
            spell = until_cancelled(is_cancelled, _keep_busy(short, clock, work_s))
            bench.engine.run(spell, concurrency, procedure.sampling, deadline_s=procedure.deadline_s)
            if is_cancelled():
                raise CancelledError
            clock.sleep(rest_s)
        watched = watch.stop()
    return refine_findings(bench.gpu.info, at_rest, find_sensors(watched))


def _keep_busy(requests: Sequence[Request], clock: Clock, seconds: float) -> Iterator[Request]:
    end_ns = clock.now_ns() + round(seconds * 1e9)
    for request in cycle(requests):
        yield request
        if clock.now_ns() >= end_ns:
            return
