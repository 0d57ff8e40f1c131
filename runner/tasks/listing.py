"""Which tasks there are, with their kinds: our own, the study's, and lm-evaluation-harness's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runner.tasks.harness.index import IndexEntry, read_index
from runner.tasks.loading import describe_task, task_names
from runner.tasks.own.tasks import read_own_config
from runner.tasks.study.tasks import STUDY_TASKS

TaskKind = Literal["prefill only", "generating", "several tasks", "not supported"]
Origin = Literal["own", "study", "harness"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedTask:
    """One name that a sweep file's [[task]] may hold, or that stands for several of them."""

    name: str
    kind: TaskKind
    origin: Origin
    """own needs no network; study and harness read public data sets."""
    about: str = ""
    metric: str | None = None
    """By which it is judged unless the sweep names another; None where only its loading tells."""


def list_tasks(word: str | None = None) -> list[ListedTask]:
    """Return the tasks whose name, or subject, holds `word`, in upper or lower case: ours first; None for all."""
    wanted = (word or "").lower()
    return [task for task in _all_tasks() if wanted in task.name.lower() or wanted in task.about.lower()]


def _all_tasks() -> Iterator[ListedTask]:
    for name in task_names():
        yield ListedTask(name=name, kind=_kind_of(name), origin="own", about=_OWN[name], metric=_own_metric(name))
    for name, task in STUDY_TASKS.items():
        yield ListedTask(name=name, kind=_kind_of(name), origin="study", about=task.subject, metric=task.metric)
    for name, entry in sorted(read_index().items()):
        if name not in STUDY_TASKS:
            yield ListedTask(name=name, kind=_kind_of_entry(entry), origin="harness")


_OWN = {
    "synthetic": "random tokens of set lengths; energy and time only",
    "tiny_commonsense": "commonsense reasoning for our small models",
    "tiny_facts": "factual generation for our small models",
    "tiny_qa": "question answering for our small models",
}


def _own_metric(name: str) -> str | None:
    return None if name == "synthetic" else str(read_own_config(name)["metric_list"][0]["metric"])


def _kind_of(name: str) -> TaskKind:
    return "generating" if describe_task(name).request_kind == "generate" else "prefill only"


def _kind_of_entry(entry: IndexEntry) -> TaskKind:
    if entry.kind == "group":
        return "several tasks"
    if entry.output_type == "loglikelihood_rolling":
        return "not supported"
    return "generating" if entry.request_kind == "generate" else "prefill only"
