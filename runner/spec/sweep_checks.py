"""Checks across the parts of a sweep file. `sweep.py` checks each field for itself.

A `SweepSpec` enters. Nothing leaves, or a ValueError that names the field, its value and what is allowed.
"""

from itertools import combinations
from typing import TYPE_CHECKING

from runner.spec.load import OpenLoop
from runner.spec.problems import did_you_mean

if TYPE_CHECKING:
    from runner.spec.sweep import SweepSpec, TaskSpec

MIN_OUTPUT_TOKENS_FOR_LENGTHS = 4
"""The shortest output for `phases = "output_lengths"`: half of it still decodes, and differs from one token."""


def check_tasks_differ(sweep: "SweepSpec") -> None:
    """Refuse tasks that differ in their label alone: their trials would have the same ids, so that one were lost.

    Raises: ValueError.
    """
    for (first, one), (second, other) in combinations(enumerate(sweep.task), 2):
        if one.model_copy(update={"label": None}) != other.model_copy(update={"label": None}):
            continue
        for model in sweep.model:
            loads = sweep.axes_of(model, other).loads
            shared = [load for load in sweep.axes_of(model, one).loads if load in loads]
            if shared:
                raise ValueError(
                    f'task[{first}] "{one.display_name}" and task[{second}] "{other.display_name}" differ at most in '
                    f"their label and share a load ({shared[0]}), so their trials would have the same ids: remove "
                    "one of the two, or give it another setting, or other loads in an [[override]]"
                )


def check_names(sweep: "SweepSpec") -> None:
    """Refuse names that stand twice, overrides of what the sweep does not have, and a fixed length without a number.

    Raises: ValueError.
    """
    models = [model.label for model in sweep.model]
    tasks = [task.display_name for task in sweep.task]
    for kind, names, remedy in (("model", models, "list it once"), ("task", tasks, "give each its own `label`")):
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f'{kind} "{repeated[0]}" is listed twice: {remedy}')
    for index, override in enumerate(sweep.override):
        for kind, wanted, names in (("model", override.model, models), ("task", override.task, tasks)):
            if wanted is not None and wanted not in names:
                raise ValueError(
                    f'override[{index}].{kind} = "{wanted}" is not in this sweep: '
                    f"its {kind}s are {', '.join(names)}{did_you_mean(wanted, names)}"
                )
    if sweep.fixed_output_length and sweep.max_output_tokens is None:
        for task in sweep.task:
            if not task.is_synthetic and task.max_output_tokens is None:
                raise ValueError("fixed_output_length = true needs max_output_tokens: the number of tokens to generate")


def check_phases(sweep: "SweepSpec") -> None:
    """Refuse `phases` where outputs differ in length, or are too short. Raises: ValueError."""
    for index, task in enumerate(sweep.task):
        if task.phases is None:
            continue
        asked = f'task[{index}].phases = "{task.phases}"'
        length = sweep.fixed_output_tokens(task)
        if length is None:
            raise ValueError(
                f"{asked} needs outputs of one length: use task synthetic, or fixed_output_length = true with "
                "max_output_tokens"
            )
        shortest = MIN_OUTPUT_TOKENS_FOR_LENGTHS if task.phases == "output_lengths" else 2
        if length < shortest:
            raise ValueError(f"{asked} needs at least {shortest} output tokens, but a request generates {length}")
        _refuse_prefix_cache(sweep, asked)


def check_repeat_each(sweep: "SweepSpec") -> None:
    """Refuse `repeat_each_s` where a prompt is not alone on the GPU. Raises: ValueError."""
    for index, task in enumerate(sweep.task):
        if task.repeat_each_s is None:
            continue
        asked = f"task[{index}].repeat_each_s = {task.repeat_each_s:g}"
        for model in sweep.model:
            if other := [load for load in sweep.axes_of(model, task).loads if not load.is_single]:
                raise ValueError(
                    f"{asked} measures a prompt that is alone on the GPU: its concurrency must be 1, "
                    f"not {other[0]} (give the task an [[override]] with concurrency = 1)"
                )
        _refuse_prefix_cache(sweep, asked)


def check_open_loops(sweep: "SweepSpec") -> None:
    """Refuse request rates where they cannot be measured, and windows that no trial may last. Raises: ValueError."""
    for index, override in enumerate(sweep.override):
        if override.concurrency is not None and override.request_rate is not None:
            raise ValueError(
                f"override[{index}] gives both concurrency and request_rate: give one of them (each [[override]] "
                "replaces the kind of load), or list both in [axes], where each value is a load of its own"
            )
    open_tasks = [task for task in sweep.task if _open_loops(sweep, task)]
    for task in open_tasks:
        name = task.display_name
        if task.phases is not None or task.repeat_each_s is not None:
            setting = "phases" if task.phases else "repeat_each_s"
            raise ValueError(
                f'task "{name}" has {setting} and a request_rate: {setting} needs a closed loop, so give the task an '
                "[[override]] with a concurrency"
            )
        if any(load.capacity_fraction is not None for load in _open_loops(sweep, task)) and sweep.slo_of(task) is None:
            raise ValueError(
                f'task "{name}" has a request_rate in per cent of its capacity, which is the highest rate that keeps '
                'an SLO: add [slo], such as ttft = "200 ms"'
            )
    for index, task in enumerate(sweep.task):
        if task.find_capacity and (task not in open_tasks or sweep.slo_of(task) is None):
            raise ValueError(
                f"task[{index}].find_capacity = true searches the highest rate that keeps an SLO: it needs a "
                "request_rate, in [axes] or in an [[override]] of the task, and an [slo]"
            )
    if not open_tasks:
        if sweep.ramp_s is not None:
            raise ValueError("ramp_s belongs to loads with a request_rate, and this sweep has none: leave it out")
        if sweep.axes.burstiness != (1.0,) or any(override.burstiness for override in sweep.override):
            raise ValueError("burstiness belongs to a request_rate, and this sweep has none: add axes.request_rate")
    elif sweep.min_window_s <= 0:
        raise ValueError("min_window_s = 0 gives requests that arrive at a rate no time: give the window's seconds")
    elif sweep.ramp_of_open_loops_s + sweep.min_window_s > sweep.limits.trial_s:
        raise ValueError(
            f"ramp_s and min_window_s together last {sweep.ramp_of_open_loops_s + sweep.min_window_s:g} s, longer than "
            f"limits.trial_s = {sweep.limits.trial_s:g}: raise the limit or shorten the window"
        )


def _open_loops(sweep: "SweepSpec", task: "TaskSpec") -> list[OpenLoop]:
    """Return the loads of a task, for any model, that are open loops."""
    loads = (load for model in sweep.model for load in sweep.axes_of(model, task).loads)
    return [load for load in loads if isinstance(load, OpenLoop)]


def _refuse_prefix_cache(sweep: "SweepSpec", asked: str) -> None:
    """The prefix cache would answer repeated prompts, so that prefill would seem to cost nothing."""
    for model in sweep.model:
        if model.engine.get("enable_prefix_caching"):
            raise ValueError(
                f'{asked} repeats prompts, which the prefix cache of model "{model.label}" would answer: '
                "leave enable_prefix_caching out"
            )
