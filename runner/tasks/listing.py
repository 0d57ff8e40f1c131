"""All tasks by name and kind: our own, the study's, and lm-evaluation-harness's."""

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
    """One name for a sweep file's [[task]], or for several tasks."""

    name: str
    kind: TaskKind
    origin: Origin
    """An own task needs no network. The tasks of the study and of the harness read public data sets."""
    about: str = ""
    metric: str | None = None
    """The metric that judges it unless the sweep file names another; None if it is known only after loading."""


def list_tasks(word: str | None = None) -> list[ListedTask]:
    """Return the tasks whose name or subject contains `word`. Case does not matter; None returns all.

    The task of exactly that name comes first, then names that begin with the word, then the rest; of each, ours first.
    """
    wanted = (word or "").lower()
    found = [task for task in _all_tasks() if wanted in task.name.lower() or wanted in task.about.lower()]
    return sorted(found, key=lambda task: (task.name.lower() != wanted, not task.name.lower().startswith(wanted)))


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
