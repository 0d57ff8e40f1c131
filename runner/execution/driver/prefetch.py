"""Prefetch: later models are downloaded while the present one is measured.

The driver polls. Each download is a Ray task in a process of its own at the lowest priority, one at a time on a node. A
failed download is reported as an event alone: the worker downloads again when the model's turn comes.
"""

import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.execution.preflight.model_access import explain
from runner.execution.preflight.model_files import download, find_cached, is_on_hub
from runner.results.live import EventLevel
from runner.spec.model import ModelSpec
from runner.spec.trial import Block

_LOWEST_PRIORITY = 19
EventParts = tuple[EventLevel, str, str]
"""The level, kind and message of an event."""


class Prefetch:
    """Downloads some models on some nodes, in the order given.

    Args:
        models: models of the hub, each once.
        commits: the commits of the models that have one, by label.
        node_ids: Ray's nodes with a worker. None is this machine alone.
    """

    def __init__(
        self, models: Iterable[ModelSpec], commits: Mapping[str, str], node_ids: Collection[str | None]
    ) -> None:
        wanted = [(model.id, commits.get(model.label, model.revision)) for model in models]
        self._waiting = {node_id: deque(_missing_here(wanted) if node_id is None else wanted) for node_id in node_ids}
        self._running: dict[str | None, Any] = {}

    def poll(self) -> Iterator[EventParts]:
        """Start the downloads that are due, and yield an event for each that has ended. It does not wait."""
        for node_id, waiting in self._waiting.items():
            task = self._running.get(node_id)
            if task is not None and ray.wait([task], timeout=0)[0]:
                del self._running[node_id]
                yield _read_event(task)
            if waiting and node_id not in self._running:
                self._running[node_id] = _start(node_id, *waiting.popleft())

    def stop(self) -> None:
        """End the downloads in progress. A later download goes on from what they have stored."""
        for task in self._running.values():
            with suppress(RayError):
                ray.cancel(task, force=True)
        self._running.clear()


def list_ahead(blocks: Iterable[Block], trial_ids: Collection[str], engine: str) -> list[ModelSpec]:
    """Return the models of the hub whose turn comes later. The worker downloads the first one itself.

    Args:
        blocks: in the order in which they are due.
        trial_ids: the trials that are to be run.
        engine: "vllm" or "simulated", which loads no model.
    """
    due = [block.model for block in blocks if any(trial.trial_id in trial_ids for trial in block.trials)]
    models = {(model.id, model.revision): model for model in due}  # variants of a model share its files
    return [model for model in list(models.values())[1:] if is_on_hub(model.id)] if engine == "vllm" else []


def _missing_here(models: Iterable[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    return [(model_id, revision) for model_id, revision in models if find_cached(model_id, revision) is None]


def _start(node_id: str | None, model_id: str, revision: str | None) -> Any:
    # One call a process, since Ray would use a process of low priority again.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_download_at_low_priority)
    if node_id is not None:
        task = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))
    return task.remote(model_id, revision)


def _read_event(task: Any) -> EventParts:
    try:
        event: EventParts = ray.get(task)
    except RayError as error:
        return "warning", "download_failed", f"a download of a later model has died: {error}"
    return event


def _download_at_low_priority(model_id: str, revision: str | None) -> EventParts:
    """Runs on a node. It returns errors of the hub as text, since they cannot be sent between processes."""
    os.nice(_LOWEST_PRIORITY)
    start_s = time.monotonic()
    try:
        download(model_id, revision)
    except Exception as error:  # the hub's own, the network's, the disk's
        reason = explain(model_id, revision, error)[1]
        return "warning", "download_failed", f"the download of a later model failed: {reason}"
    return "info", "model_downloaded", f"{model_id} downloaded in {time.monotonic() - start_s:.0f} s"
