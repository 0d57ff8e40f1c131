"""Checks before any engine is loaded: the names in a sweep exist, and the GPUs can be set to its operating points.

A sweep, or its blocks and GPU groups, enter. Nothing leaves, or one error with everything that is wrong.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.engine_arguments import find_wrong_arguments
from runner.hardware.access.permission import denied
from runner.hardware.gpu import NoGpuError, NotSupportedError
from runner.hardware.operating_point import resolve_operating_point
from runner.inference.vllm.shapes import SHAPES_PREFIX
from runner.physics.shape import shape_names
from runner.spec.problems import did_you_mean
from runner.spec.sweep import SweepFileError, SweepSpec
from runner.spec.trial import Block
from runner.tasks.loading import check_task_name, read_metric_names
from runner.tasks.task import TaskError


def require_known_names(sweep: SweepSpec, path: Path | None) -> None:
    """Refuse a sweep that names a task, metric, shape, folder or engine argument that does not exist.

    The hub is not asked.

    Raises: SweepFileError: all of them, each with its field in the file at `path`.
    """
    if problems := [*_find_unknown_models(sweep), *find_wrong_arguments(sweep), *_find_unknown_tasks(sweep)]:
        raise SweepFileError(path, problems)


def _find_unknown_models(sweep: SweepSpec) -> Iterator[str]:
    names = shape_names()
    for index, model in enumerate(sweep.model):
        shape = model.id.removeprefix(SHAPES_PREFIX)
        if shape != model.id and shape not in names:
            yield (
                f'model[{index}].id = "{model.id}" is unknown: the shapes are {", ".join(names)}'
                f"{did_you_mean(shape, names)}"
            )
        elif Path(model.id).is_dir() and not (Path(model.id) / "config.json").is_file():
            yield f'model[{index}].id = "{model.id}" is a folder without config.json: vLLM cannot open it'
        if model.twin is not None and model.twin not in names:
            yield (
                f'model[{index}].twin = "{model.twin}" is unknown: the shapes are {", ".join(names)}'
                f"{did_you_mean(model.twin, names)}"
            )


def _find_unknown_tasks(sweep: SweepSpec) -> Iterator[str]:
    for index, task in enumerate(sweep.task):
        try:
            check_task_name(task.name)
        except TaskError as error:
            yield f'task[{index}].name = "{task.name}": {error}'
            continue
        if task.quality_metric is None or (names := read_metric_names(task.name)) is None:
            continue
        if names.find(task.quality_metric) is None:
            yield (
                f'task[{index}].quality_metric = "{task.quality_metric}" is unknown: task "{task.name}" has '
                f"{names.describe(task.quality_metric)}"
            )


def require_tokenizers(sweep: SweepSpec, path: Path | None) -> None:
    """Refuse a sweep that gives texts to models without a tokenizer. Only the simulated engine can tokenize for them.

    Raises: SweepFileError: all such models, each with its field in the file at `path`.
    """
    texts = [f'task[{index}].name = "{task.name}"' for index, task in enumerate(sweep.task) if not task.is_synthetic]
    problems = [
        f'model[{index}].id = "{model.id}" has random weights and no tokenizer, but {", ".join(texts)} needs one: '
        'use task "synthetic" (or --engine simulated, which scores nothing)'
        for index, entry in enumerate(sweep.model)
        for model in entry.variants
        if texts and model.id.startswith(SHAPES_PREFIX) and model.engine.get("skip_tokenizer_init", True)
    ]
    if problems:
        raise SweepFileError(path, list(dict.fromkeys(problems)))


def require_possible(groups: Sequence[GpuGroup], engine: str) -> None:
    """Refuse at once what would fail for every trial. Raises: ValueError, NoGpuError."""
    simulated = [group.info.simulated for group in groups]
    if engine == "simulated" and not all(simulated):
        raise ValueError("--engine simulated computes on simulated GPUs only: add --gpu sim")
    if any(simulated) and not all(simulated):
        raise NoGpuError("real and simulated GPUs cannot be mixed in one run")


def require_settable(blocks: Sequence[Block], groups: Sequence[GpuGroup]) -> None:
    """Refuse a sweep with an operating point that a GPU cannot be set to.

    Raises: PermissionDeniedError: clocks may not be set on a GPU's host. NotSupportedError: a GPU lacks an axis.
        ValueError: a value is outside a GPU's range.
    """
    asked = (trial.requested_point for block in blocks for trial in block.trials)
    points = dict.fromkeys(requested for requested in asked if not requested.is_default)
    if not points:
        return
    for group in groups:
        if group.obstacle is not None:
            raise denied(group.obstacle, f"on {group.host}")
    missing: dict[str, None] = {}
    wrong: dict[str, None] = {}
    for info in {group.info.name: group.info for group in groups}.values():
        for requested in points:
            try:
                resolve_operating_point(info, requested)
            except NotSupportedError as error:
                missing[str(error)] = None
            except ValueError as error:
                wrong[str(error)] = None
    if wrong:
        raise ValueError("\n".join((*wrong, *missing)))
    if missing:
        raise NotSupportedError("\n".join(missing))
