"""From a name to the task object of lm-evaluation-harness, with errors that say what to do."""

import difflib
import logging
import random
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from runner.tasks.harness.index import IndexEntry, harness_tasks_folder, read_index
from runner.tasks.own.tasks import own_task_names
from runner.tasks.study.tasks import STUDY_TASKS, study_file
from runner.tasks.task import TaskError

_NETWORK_ERRORS = ("ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "Timeout")


def find_harness_task(name: str) -> IndexEntry:
    """Return the index entry of a single task.

    Raises: TaskError: there is no such task, it is not supported, or the name stands for several tasks. The message
        names similar tasks, or members of the group.
    """
    index = read_index()
    entry = index.get(name)
    if entry is None:
        known = ["synthetic", *own_task_names(), *STUDY_TASKS, *index]
        close = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else "`sweep tasks WORD` searches their names"
        raise TaskError(f"there is no task {name!r} in lm-evaluation-harness or among our own: {hint}")
    if entry.kind == "group":
        members = ", ".join(entry.members) or "its members"
        raise TaskError(f"{name!r} stands for several tasks; name one or more of them instead, such as {members}")
    if entry.output_type == "loglikelihood_rolling":
        raise TaskError(f"{name!r} scores whole documents (loglikelihood_rolling), which is not supported")
    return entry


def load_harness_task(name: str, *, seed: int) -> Any:
    """Return the harness's task object (lm_eval.api.task.Task), with its data set from the cache or the network.

    The YAML is the harness's, or ours for the tasks of the study that the harness lacks. Some tasks shuffle their
    documents with Python's and NumPy's global generators, which are seeded while the task loads.

    Raises: TaskError: the name is unknown, or the data is not available.
    """
    path = study_file(name) or harness_tasks_folder() / str(find_harness_task(name).path)
    from lm_eval.tasks import TaskManager

    try:
        with seeded(seed), _quiet_harness(), _offline_if_unreachable():
            (task,) = TaskManager(include_defaults=False).load(str(path))["tasks"].values()
    except Exception as error:  # a task's own code and the loader of its data set may raise anything
        raise TaskError(_explain(name, error)) from error
    return task


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators for the time of a block, and restore their states afterwards."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _explain(name: str, error: Exception) -> str:
    own = ", ".join(own_task_names())
    reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    if _is_network_error(error):
        return (
            f"the data of task {name!r} is not on this machine and cannot be downloaded without a network ({reason}). "
            f"Our own tasks need none: {own}, synthetic"
        )
    return f"task {name!r} cannot be loaded ({reason}). If the harness can load it (`lm-eval validate`), report this"


def _is_network_error(error: BaseException | None) -> bool:
    while error is not None:
        if any(word in kind.__name__ for kind in type(error).__mro__ for word in _NETWORK_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _quiet_harness() -> Iterator[None]:
    """Suppress the harness's warnings about a task's YAML, which would disturb the dashboard."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Avoid half a minute of retries if the hub's name does not resolve. Cached data still loads.

    A proxy resolves names itself, so behind a proxy this changes nothing.
    """
    import datasets.config  # type: ignore[import-untyped]
    from huggingface_hub import constants

    settings: tuple[Any, ...] = (constants, datasets.config)
    before = [module.HF_HUB_OFFLINE for module in settings]
    if not urllib.request.getproxies() and not _resolves(constants.ENDPOINT):
        for module in settings:
            module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _resolves(url: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True
