"""A run in the format of another tool, as a folder of files.

A run directory enters. Files leave, with notes on what the format demands and the run does not know.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from runner.results.atomic_files import write_atomically
from runner.results.exchange import inferencex, mlenergy, vllm_serve
from runner.results.exchange.exported_trial import ExportedTrial, read_exported_trials
from runner.results.exchange.formats import ExportFormat
from runner.results.exchange.vllm_serve import Files
from runner.results.run_directory import RunStore
from runner.spec.problems import did_you_mean
from runner.version import __version__

EXPORTS = "exports"
"""The folder of a run directory that holds its exports, unless another one is given."""
LIST = "joulesweep-export.json"
"""What an export wrote. A later export into the same folder removes those files first."""
_FORMATS: dict[str, Callable[[Sequence[ExportedTrial]], tuple[Files, list[str]]]] = {
    "vllm-bench": vllm_serve.make_files,
    "mlenergy": mlenergy.make_files,
    "inferencex": inferencex.make_files,
}


class ExportError(ValueError):
    """The run cannot be exported. The message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What was written."""

    folder: Path
    files: tuple[str, ...]
    """Paths inside the folder."""
    num_trials: int
    notes: tuple[str, ...]
    """What is null or left out, and why."""


def export_run(store: RunStore, name: str, folder: Path | None = None) -> Export:
    """Write a run in the format of another tool.

    Args:
        store: the run; it is only read.
        name: the format, one of `ExportFormat`.
        folder: where to; RUN/exports/FORMAT unless given. It must be new or empty, or hold an earlier export.
    Raises: ExportError: there is no such format, nothing that it can hold, or the folder holds other files.
        WriteError: a file cannot be written.
    """
    if name not in _FORMATS:
        names = get_args(ExportFormat)
        raise ExportError(f"--format = {name!r} is not allowed: give {' or '.join(names)}{did_you_mean(name, names)}")
    trials, left_out = read_exported_trials(store)
    files, notes = _FORMATS[name](trials)
    notes = [*left_out, *notes]
    if not files:
        raise ExportError(f"{store.directory} has no trial that {name} can hold: {'; '.join(notes) or 'it is empty'}")
    folder = folder or store.directory / EXPORTS / name
    _clear_earlier(folder)
    for path, content in files.items():
        write_atomically(folder / path, _format(path, content))
    export = Export(
        folder=folder, files=tuple(files), num_trials=_count_trials(files, name), notes=tuple(dict.fromkeys(notes))
    )
    _write_list(export, store, name)
    return export


def _count_trials(files: Files, name: str) -> int:
    """Return the files that hold one trial each."""
    suffix = {"vllm-bench": "run=", "mlenergy": "results.json", "inferencex": "agg_"}[name]
    return sum(path.rpartition("/")[2].startswith(suffix) for path in files)


def _format(path: str, content: Any) -> bytes:
    if path.endswith(".yaml"):  # a mapping, whose values are YAML when they are JSON
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items()).encode()
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def _clear_earlier(folder: Path) -> None:
    """Remove the files of an earlier export. Raises: ExportError: other files are there and no export."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file: give a new folder as --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        earlier = json.loads((folder / LIST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{folder} holds other files and no export: give a new folder as --out") from None
    for path in earlier:
        if (folder / path).resolve().is_relative_to(folder.resolve()):
            (folder / path).unlink(missing_ok=True)


def _write_list(export: Export, store: RunStore, name: str) -> None:
    manifest = store.read_manifest() or {}
    content = {
        "format": name,
        "run": manifest.get("name"),
        "simulated": manifest.get("simulated"),
        "versions": {"joulesweep": __version__},
        "notes": export.notes,
        "files": export.files,
    }
    write_atomically(export.folder / LIST, _format(LIST, content))
