"""The index of lm-evaluation-harness's tasks: their names and files, kept in the user's cache folder.

To build the index, the harness reads thousands of YAML files (5-6 s). To read it back takes milliseconds. A cached
index belongs to one version of the harness. If it cannot be written, the index is built each time.
"""

import importlib.metadata
import importlib.util
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from runner.spec.request import RequestKind
from runner.tasks.task import TaskError

_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """A task of the harness, or a group of tasks."""

    kind: Literal["task", "group"]
    """A group is a name for several tasks: the harness's groups and tags."""
    path: str | None
    """The task's YAML, relative to the harness's folder of tasks; None for a group."""
    output_type: str
    """The harness's word: generate_until, multiple_choice, loglikelihood, loglikelihood_rolling; "" for a group."""
    members: tuple[str, ...] = ()
    """The first few names of a group."""

    @property
    def request_kind(self) -> RequestKind:
        """Whether its requests generate, or only score a continuation."""
        return "generate" if self.output_type == "generate_until" else "loglikelihood"


def read_index() -> dict[str, IndexEntry]:
    """Return every name that the installed harness knows, from the cache if there is one."""
    path = _cache_path()
    with suppress(OSError, ValueError, TypeError, KeyError):
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {name: IndexEntry(**{**row, "members": tuple(row["members"])}) for name, row in rows.items()}
    index = build_index()
    with suppress(OSError):
        _write_cache(path, index)
    return index


def build_index() -> dict[str, IndexEntry]:
    """Return the index as the harness itself builds it."""
    from lm_eval.tasks import TaskManager

    return {name: _describe(entry) for name, entry in TaskManager().task_index.items()}


def harness_tasks_folder() -> Path:
    """Return the harness's folder of task files.

    Raises: TaskError: the harness is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise TaskError("lm-evaluation-harness is not installed: pip install lm-eval")
    return Path(next(iter(spec.submodule_search_locations))) / "tasks"


def _describe(entry: object) -> IndexEntry:
    config = getattr(entry, "cfg", None) or {}
    yaml_path: Path | None = getattr(entry, "yaml_path", None)
    if getattr(entry, "kind").name in ("GROUP", "TAG") or yaml_path is None:  # noqa: B009  the harness is untyped
        named = config.get("task") or sorted(getattr(entry, "tags", ()))
        members = [it if isinstance(it, str) else str(it.get("task") or it.get("group")) for it in named]
        return IndexEntry(kind="group", path=None, output_type="", members=tuple(members[:3]))
    return IndexEntry(
        kind="task",
        path=yaml_path.relative_to(harness_tasks_folder()).as_posix(),
        output_type=config.get("output_type") or "generate_until",
    )


def _cache_path() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "joulesweep" / f"lm-eval-{importlib.metadata.version('lm-eval')}-{_FORMAT}.json"


def _write_cache(path: Path, index: dict[str, IndexEntry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
        json.dump({name: asdict(entry) for name, entry in index.items()}, file)
    os.replace(file.name, path)
