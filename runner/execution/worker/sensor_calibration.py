"""The sensors under a first load: irregular spells of work, with rests before, between and after them.

A trial context and the probe's findings at rest enter. Better findings leave, before the first window opens. The
averaging window of a sensor shows only in steps of power, and against another sensor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle

from runner.execution.worker.trial.measure import InterruptedTrialError, TrialContext
from runner.execution.worker.trial.procedure import Procedure
from runner.execution.worker.trial.rounds import until_interrupted
from runner.hardware.sensors.probe import find_sensors, refine_findings
from runner.hardware.sensors.watch import SensorWatch
from runner.results.sensors import SensorFindings
from runner.spec.load import Load
from runner.spec.request import Request
from runner.timebase import TimeSource

REST_BEFORE_S = 1.1
"""The longest known averaging window, and one update period."""
SPELLS_S = ((0.43, 0.31), (0.17, 0.59), (0.71, 1.23))
"""(work, rest), about five seconds in all. Their lengths differ, so that each step falls on another place of a period.
The last rest is longer than the longest averaging window."""
MAX_OUTPUT_TOKENS = 16
"""Short, since a spell of work lasts until its last request ends."""


def watch_first_load(
    context: TrialContext,
    requests: Sequence[Request],
    load: Load,
    procedure: Procedure,
    at_rest: SensorFindings,
    *,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> SensorFindings:
    """Let the engine work and rest for about five seconds, and return what is known about the sensors afterwards.

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
            context.engine.run(spell, load.warm_up, procedure.sampling, deadline_s=procedure.deadline_s)
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
