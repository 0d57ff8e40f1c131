"""From responses to one named score: the harness's filters, process_results, aggregation and standard error."""

import contextlib
import io
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.tasks.harness.metric_names import MetricNames
from runner.tasks.task import Quality, TaskError

NUM_BOOTSTRAP = 200
"""Number of resamples for the standard error of a metric that has no closed form."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a task, applied to the answers after one of its filters."""

    name: str
    filter_name: str
    higher_is_better: bool


def choose_metric(task: Any, wanted: str | None) -> Metric:
    """Return the metric to report: the wanted one ("NAME" or "NAME,FILTER"), or the task's first.

    Raises: TaskError: the task has no such metric or filter. The message lists those that it has.
    """
    names = MetricNames(metrics=tuple(task.aggregation()), filters=tuple(ensemble.name for ensemble in task._filters))
    wanted = wanted or names.metrics[0]
    found = names.find(wanted)
    if found is None:
        raise TaskError(f"task {task.config.task!r} has no quality_metric {wanted!r}; it has: {names.describe(wanted)}")
    name, filter_name = found
    return Metric(name=name, filter_name=filter_name, higher_is_better=bool(task.higher_is_better().get(name, True)))


def score_instances(task: Any, metric: Metric, instances: Sequence[Any], responses: Sequence[list[Any]]) -> Quality:
    """Return the score of documents that have all their responses.

    Args:
        task: lm_eval.api.task.Task.
        metric: the metric to report.
        instances: [num_instances] lm_eval.api.instance.Instance, at least one; of each document all or none.
        responses: [num_instances] lists of responses, as many as the task repeats a request. A response is a text, or
            (log-likelihood, is greedy).
    Returns: the quality, with `per_sample` by the harness's document number as a string.
    """
    for instance, instance_responses in zip(instances, responses, strict=True):
        instance.resps, instance.filtered_resps = list(instance_responses), {}
    for ensemble in task._filters:
        ensemble.apply(list(instances))
    by_document: dict[int, list[Any]] = defaultdict(list)
    for instance in instances:
        by_document[instance.doc_id].append(instance)
    items: dict[int, Any] = {}
    for doc_id, group in sorted(by_document.items()):
        group.sort(key=lambda instance: instance.idx)
        filtered = [instance.filtered_resps[metric.filter_name] for instance in group]
        results = task.process_results(group[0].doc, filtered)
        if metric.name in results:
            items[doc_id] = results[metric.name]
    return _aggregate(task, metric, items)


def no_quality(metric: Metric, reason: str) -> Quality:
    """Return the quality of a run that cannot be scored."""
    return Quality(metric=metric.name, higher_is_better=metric.higher_is_better, value=None, stderr=None, reason=reason)


def _aggregate(task: Any, metric: Metric, items: dict[int, Any]) -> Quality:
    from lm_eval.api.metrics import mean, stderr_for_metric

    if not items:
        return no_quality(metric, f"no document has a {metric.name}")
    aggregate = task.aggregation()[metric.name]
    values = list(items.values())
    value = float(aggregate(values))
    if not math.isfinite(value):
        return no_quality(metric, f"{metric.name} is not defined for these answers")
    estimate_stderr = stderr_for_metric(metric=aggregate, bootstrap_iters=NUM_BOOTSTRAP)
    stderr = None
    if estimate_stderr is not None and len(values) > 1:
        with _bootstrap_quietly():
            stderr = float(estimate_stderr(values))
    return Quality(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        value=value,
        stderr=stderr,
        per_sample={str(doc_id): float(item) for doc_id, item in items.items()} if aggregate is mean else {},
    )


@contextlib.contextmanager
def _bootstrap_quietly() -> Iterator[None]:
    """Make the harness's bootstrap print nothing and start no process: this process has threads and may not fork."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.environ.pop("DISABLE_MULTIPROC")
        if before is not None:
            os.environ["DISABLE_MULTIPROC"] = before
