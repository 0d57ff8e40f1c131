"""Checks of requests that arrive at a rate, across the parts of a sweep file.

A `SweepSpec` enters. Nothing leaves, or a ValueError that names the field, its value and what is allowed.
"""

from typing import TYPE_CHECKING

from runner.spec.load import OpenLoop

if TYPE_CHECKING:
    from runner.spec.sweep import SweepSpec, TaskSpec


def check_open_loops(sweep: "SweepSpec") -> None:
    """Refuse request rates where they cannot be measured, and windows that no trial may last. Raises: ValueError."""
    for index, override in enumerate(sweep.override):
        if override.concurrency is not None and override.request_rate is not None:
            raise ValueError(
                f"override[{index}] gives both concurrency and request_rate: give one of them (each [[override]] "
                "replaces the kind of load), or list both in [axes], where each value is a load of its own"
            )
    has_rates = False
    for index, task in enumerate(sweep.task):
        if task.trace is not None:
            has_rates = True
            _check_replay(sweep, task)
            continue
        loads = _open_loops(sweep, task)
        has_rates = has_rates or bool(loads)
        if loads:
            _check_task(sweep, index, task, loads)
        if task.find_capacity and (not loads or sweep.slo_of(task) is None):
            raise ValueError(
                f"task[{index}].find_capacity = true searches the highest rate that keeps an SLO: it needs a "
                "request_rate, in [axes] or in an [[override]] of the task, and an [slo]"
            )
    if has_rates:
        _check_window(sweep)
    elif sweep.ramp_s is not None:
        raise ValueError("ramp_s belongs to loads with a request_rate, and this sweep has none: leave it out")
    elif sweep.axes.burstiness != (1.0,) or any(override.burstiness for override in sweep.override):
        raise ValueError("burstiness belongs to a request_rate, and this sweep has none: add axes.request_rate")


def _check_task(sweep: "SweepSpec", index: int, task: "TaskSpec", loads: list[OpenLoop]) -> None:
    name = task.display_name
    if task.phases is not None or task.repeat_each_s is not None:
        setting = "phases" if task.phases else "repeat_each_s"
        raise ValueError(
            f'task "{name}" has {setting} and a request_rate: {setting} needs a closed loop, so give the task an '
            "[[override]] with a concurrency"
        )
    if isinstance(task.num_requests, str):
        raise ValueError(
            f'task[{index}].num_requests = "{task.num_requests}" follows the concurrency, and requests that arrive at '
            "a rate have none: give a whole number"
        )
    if any(load.capacity_fraction is not None for load in loads) and sweep.slo_of(task) is None:
        raise ValueError(
            f'task "{name}" has a request_rate in per cent of its capacity, which is the highest rate that keeps an '
            'SLO: add [slo], such as ttft = "200 ms"'
        )


def _check_replay(sweep: "SweepSpec", task: "TaskSpec") -> None:
    for index, override in enumerate(sweep.override):
        asks = override.concurrency is not None or override.request_rate is not None
        if asks and override.task == task.display_name:
            raise ValueError(
                f'override[{index}] gives task "{override.task}" another load, and its trace says when requests '
                "arrive: leave the load out of the override, or the trace out of the task"
            )
    trace = task.read_trace()
    duration_s = trace.duration_s
    if duration_s > sweep.limits.trial_s:
        raise ValueError(
            f'the trace of task "{task.display_name}" lasts {duration_s:g} s, longer than limits.trial_s = '
            f"{sweep.limits.trial_s:g}: replay a part (trace_slice_s), scale its time, or raise the limit"
        )
    if sweep.ramp_of_open_loops_s >= trace.arrival_s[-1]:
        raise ValueError(
            f"ramp_s = {sweep.ramp_of_open_loops_s:g} leaves no request of the {duration_s:g} s that the trace of task "
            f'"{task.display_name}" lasts: give a shorter ramp_s'
        )


def _check_window(sweep: "SweepSpec") -> None:
    total_s = sweep.ramp_of_open_loops_s + sweep.min_window_s
    if sweep.max_window_s is not None:
        raise ValueError(
            "max_window_s ends closed loops alone, since the windows of requests that arrive at a rate hold whole "
            "rounds: leave it out, or give the rates a sweep of their own"
        )
    if sweep.min_window_s <= 0:
        raise ValueError("min_window_s = 0 gives requests that arrive at a rate no time: give the window's seconds")
    if total_s > sweep.limits.trial_s:
        raise ValueError(
            f"ramp_s and min_window_s together last {total_s:g} s, longer than limits.trial_s = "
            f"{sweep.limits.trial_s:g}: raise the limit or shorten the window"
        )


def _open_loops(sweep: "SweepSpec", task: "TaskSpec") -> list[OpenLoop]:
    """Return the loads of a task, for any model, that are open loops."""
    loads = (load for model in sweep.models for load in sweep.loads_of(model, task))
    return [load for load in loads if isinstance(load, OpenLoop)]
