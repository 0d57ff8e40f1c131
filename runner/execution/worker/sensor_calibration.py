"""The sensors under a first load: some irregular spells of work on a GPU that rests before, between and after.

A trial context and the probe's findings at rest enter. Better findings leave, before the first window opens. The time
that a reading averages over shows only when power steps, and against another source.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle

from runner.execution.worker.measure import InterruptedTrialError, Procedure, TrialContext
from runner.execution.worker.rounds import until_interrupted
from runner.hardware.sensors.probe import find_sensors, refine_findings
from runner.hardware.sensors.watch import SensorWatch
from runner.results.sensors import SensorFindings
from runner.spec.load import Load
from runner.spec.request import Request
from runner.timebase import TimeSource

REST_BEFORE_S = 1.1
"""The longest average that is known, and an update."""
SPELLS_S = ((0.43, 0.31), (0.17, 0.59), (0.71, 1.23))
"""(work, rest), some five seconds in all: of different lengths, so that no step falls on the same place of a period as
another; the last rest is longer than the longest average."""
MAX_OUTPUT_TOKENS = 16
"""A spell ends when its last request has."""


def watch_first_load(
    context: TrialContext,
    requests: Sequence[Request],
    load: Load,
    procedure: Procedure,
    at_rest: SensorFindings,
    *,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> SensorFindings:
    """Let the engine work and rest for some five seconds, and return what is known of the sensors by then.

    Raises: EngineError, InterruptedTrialError; GpuLostError: the GPU no longer answers.
    """
    short = [
        replace(request, max_output_tokens=min(request.max_output_tokens, MAX_OUTPUT_TOKENS)) for request in requests
    ]
    time_source = context.time_source
    with SensorWatch(context.gpu, time_source) as watch:
        time_source.sleep(REST_BEFORE_S)
        for work_s, rest_s in SPELLS_S:
            spell = until_interrupted(is_interrupted, _keep_busy(short, time_source, work_s))
            context.engine.run(spell, load, procedure.sampling, deadline_s=procedure.deadline_s)
            if is_interrupted():
                raise InterruptedTrialError
            time_source.sleep(rest_s)
        watched = watch.stop()
    return refine_findings(context.gpu.info, at_rest, find_sensors(watched))


def _keep_busy(requests: Sequence[Request], time_source: TimeSource, seconds: float) -> Iterator[Request]:
    end_ns = time_source.now_ns() + round(seconds * 1e9)
    for request in cycle(requests):
        yield request
        if time_source.now_ns() >= end_ns:
            return
