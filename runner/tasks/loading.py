"""From a sweep file's task to a `Task`: our own tasks, the harness's, and synthetic lengths.

Importing this module is cheap: the harness and its data loader are imported when a task is loaded. The same arguments
give the same task in every process.
"""

from dataclasses import dataclass

from runner.spec.request import RequestKind
from runner.spec.sweep import TaskSpec
from runner.tasks.harness.index import harness_tasks_folder
from runner.tasks.harness.loading import find_harness_task, load_harness_task
from runner.tasks.harness.metric_names import MetricNames
from runner.tasks.harness.task import HarnessTask, RenderChat
from runner.tasks.own.tasks import OWN_FOLDER, load_own_task, own_task_names, read_own_config
from runner.tasks.study.tasks import STUDY_TASKS, study_file
from runner.tasks.synthetic import SyntheticTask
from runner.tasks.task import Task, TaskError

SYNTHETIC = "synthetic"


@dataclass(frozen=True, kw_only=True)
class TaskDescription:
    """What is known of a task before it is loaded; None for what is not known."""

    name: str
    request_kind: RequestKind
    num_prompt_tokens_mean: float | None = None
    num_output_tokens_mean: float | None = None
    """0 for loglikelihood."""
    num_documents: int | None = None
    num_requests_per_document: int | None = None


def load_task(
    spec: TaskSpec,
    *,
    seed: int,
    max_output_tokens: int | None = None,
    fixed_output_length: bool = False,
    render_chat: RenderChat | None = None,
) -> Task:
    """Load a task with its data.

    Args:
        spec: the task in the sweep file.
        seed: of few-shot examples and random tokens.
        max_output_tokens: the sweep's. The task's own in `spec` comes before it, the harness's after it.
        fixed_output_length: generate exactly that many tokens.
        render_chat: the model's chat template (`runner.tasks.chat`) for the prompts; None leaves them as they are.

    Raises: TaskError: there is no such task, its data is not available, or a key of `spec` does not fit it.
    """
    if spec.name == SYNTHETIC:
        return _make_synthetic(spec, seed)
    is_own = spec.name in own_task_names()
    task = HarnessTask(
        spec.name,
        load_own_task(spec.name) if is_own else load_harness_task(spec.name, seed=seed),
        seed=seed,
        limit=spec.limit,
        num_fewshot=spec.num_fewshot,
        quality_metric=spec.quality_metric or (STUDY_TASKS[spec.name].metric if spec.name in STUDY_TASKS else None),
        max_output_tokens=spec.max_output_tokens or max_output_tokens,
        fixed_output_length=fixed_output_length,
        render_chat=render_chat,
    )
    if spec.phases and task.request_kind != "generate":
        raise TaskError(f"task {spec.name!r} generates nothing, so all of it is prefill: leave `phases` out")
    return task


def task_names() -> tuple[str, ...]:
    """Return the names of the tasks that need no network."""
    return (*own_task_names(), SYNTHETIC)


def check_task_name(name: str) -> None:
    """Check that a task of that name exists and is of a supported kind, as far as is known without its data.

    Raises: TaskError: it cannot be loaded. The message names similar tasks.
    """
    if name not in task_names() and study_file(name) is None:
        find_harness_task(name)


def read_metric_names(name: str) -> MetricNames | None:
    """Return what `quality_metric` may name for a task; None if that is not known without the task's data.

    Raises: TaskError: there is no such task.
    """
    if name == SYNTHETIC:
        return None
    if name in own_task_names():
        return MetricNames.read(OWN_FOLDER / f"{name}.yaml")
    return MetricNames.read(study_file(name) or harness_tasks_folder() / str(find_harness_task(name).path))


def describe_task(name: str) -> TaskDescription:
    """Return what a plan needs to know of a task.

    Token counts of our own tasks are means over the test split, with the tokenizer of our own models. Those of the
    study's tasks are round figures.

    Raises: TaskError: there is no such task.
    """
    if name == SYNTHETIC:
        return TaskDescription(name=name, request_kind="generate")
    if name in STUDY_TASKS:
        task = STUDY_TASKS[name]
        return TaskDescription(
            name=name,
            request_kind=task.request_kind,
            num_prompt_tokens_mean=task.num_prompt_tokens,
            num_output_tokens_mean=task.num_output_tokens,
            num_documents=task.num_documents,
            num_requests_per_document=task.num_requests_per_document,
        )
    if name not in own_task_names():
        return TaskDescription(name=name, request_kind=find_harness_task(name).request_kind)
    config = read_own_config(name)
    metadata = config["metadata"]
    return TaskDescription(
        name=name,
        request_kind="generate" if config["output_type"] == "generate_until" else "loglikelihood",
        num_prompt_tokens_mean=metadata["num_prompt_tokens_mean"],
        num_output_tokens_mean=metadata["num_output_tokens_mean"],
    )


def _make_synthetic(spec: TaskSpec, seed: int) -> SyntheticTask:
    if spec.trace is not None:
        trace = spec.read_trace()
        return SyntheticTask(
            num_prompt_tokens=trace.num_prompt_tokens,
            num_output_tokens=trace.num_output_tokens,
            num_requests=len(trace.arrival_s),
            seed=seed,
        )
    if spec.num_prompt_tokens is None or spec.num_output_tokens is None or not isinstance(spec.num_requests, int):
        raise TaskError("task 'synthetic' needs num_prompt_tokens, num_output_tokens and num_requests")
    return SyntheticTask(
        num_prompt_tokens=spec.num_prompt_tokens,
        num_output_tokens=spec.num_output_tokens,
        num_requests=spec.num_requests,
        seed=seed,
    )
