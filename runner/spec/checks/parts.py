"""Checks across the parts of a sweep file. `sweep.py` checks each field for itself.

A `SweepSpec` enters. Nothing leaves, or a ValueError that names the field, its value and what is allowed.
"""

import json
from itertools import combinations
from typing import TYPE_CHECKING

from runner.spec.load import Load
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
        for model in sweep.models:
            loads = sweep.loads_of(model, other)
            in_both = [load for load in sweep.loads_of(model, one) if load in loads]
            if shared := [load for load in in_both if _is_same_work(one, other, load)]:
                raise ValueError(
                    f'task[{first}] "{one.display_name}" and task[{second}] "{other.display_name}" differ at most in '
                    f"their label and share a load ({shared[0]}), so their trials would have the same ids: remove "
                    "one of the two, or give it another setting, or other loads in an [[override]]"
                )


def _is_same_work(one: "TaskSpec", other: "TaskSpec", load: Load) -> bool:
    same_label = {"label": None}
    return one.for_load(load).model_copy(update=same_label) == other.for_load(load).model_copy(update=same_label)


def check_models_differ(sweep: "SweepSpec") -> None:
    """Refuse models that differ in their label alone, as `check_tasks_differ` does with tasks. Raises: ValueError."""
    contents = {model.label: json.dumps(model.content(), sort_keys=True) for model in sweep.models}
    for one, other in combinations(sweep.models, 2):
        if contents[one.label] != contents[other.label] or one.label == other.label:  # `check_names` refuses the latter
            continue
        for task in sweep.task:
            loads = sweep.loads_of(other, task)
            if shared := [load for load in sweep.loads_of(one, task) if load in loads]:
                raise ValueError(
                    f'model "{one.label}" and model "{other.label}" differ at most in their label and share a load '
                    f"({shared[0]}), so their trials would have the same ids: remove one of the two, or give it other "
                    "engine arguments, or other loads in an [[override]]"
                )


def check_names(sweep: "SweepSpec") -> None:
    """Refuse names that stand twice, overrides of what the sweep does not have, and a fixed length without a number.

    Raises: ValueError.
    """
    models = [model.label for model in sweep.models]
    ids = [model.id for model in sweep.models]
    tasks = [task.display_name for task in sweep.task]
    for kind, names, remedy in (
        ("model", models, "list it once, or give each its own `label`"),
        ("task", tasks, "give each its own `label`"),
    ):
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f'{kind} "{repeated[0]}" is listed twice: {remedy}')
    for index, override in enumerate(sweep.override):
        for kind, wanted, names in (("model", override.model, models), ("task", override.task, tasks)):
            if wanted is not None and wanted not in names and not (kind == "model" and wanted in ids):
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
        for model in sweep.models:
            if other := [load for load in sweep.loads_of(model, task) if not load.is_single]:
                raise ValueError(
                    f"{asked} measures a prompt that is alone on the GPU: its concurrency must be 1, "
                    f"not {other[0]} (give the task an [[override]] with concurrency = 1)"
                )
        _refuse_prefix_cache(sweep, asked)


def check_max_window(sweep: "SweepSpec") -> None:
    """Refuse `max_window_s` under the shortest window, and where a window that is cut would say nothing.

    Raises: ValueError.
    """
    if sweep.max_window_s is None:
        return
    asked = f"max_window_s = {sweep.max_window_s:g}"
    if sweep.max_window_s < sweep.min_window_s:
        raise ValueError(f"{asked} is shorter than min_window_s = {sweep.min_window_s:g}: raise one or lower the other")
    for index, task in enumerate(sweep.task):
        if task.repeat_each_s is not None:
            raise ValueError(
                f"{asked} would leave prompts out that task[{index}].repeat_each_s = {task.repeat_each_s:g} asks to "
                "measure: leave max_window_s out, or give that task a sweep of its own with a `limit`"
            )
        if task.phases == "output_lengths" and not task.is_synthetic:
            raise ValueError(
                f'{asked} would give other prompts to each of the trials that task[{index}].phases = "output_lengths" '
                "compares: use task synthetic, or leave max_window_s out and give the task a `limit`"
            )


def _refuse_prefix_cache(sweep: "SweepSpec", asked: str) -> None:
    """The prefix cache would answer repeated prompts, so that prefill would seem to cost nothing."""
    for model in sweep.models:
        if model.engine.get("enable_prefix_caching"):
            raise ValueError(
                f'{asked} repeats prompts, which the prefix cache of model "{model.label}" would answer: '
                "leave enable_prefix_caching out"
            )
