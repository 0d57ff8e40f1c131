"""The sweeps of `prove_unchanged.py`: each sweep file of sweeps/ and proof/, with the GPUs and faults it runs on.

A `Case` and its sweep file enter, the sweep file to run leaves: without tasks whose data is on the network, and no
longer than a minute. Both sides of a proof run the same file.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent
CHECKOUT = SCRIPTS.parent

OWN_TASKS = ("tiny_qa", "tiny_facts", "tiny_commonsense", "synthetic")
STANDINS = {
    "boolq": "tiny_commonsense",
    "hellaswag": "tiny_commonsense",
    "boolq_generate": "tiny_qa",
    "hellaswag_generate": "tiny_qa",
    "narrativeqa": "tiny_qa",
    "narrativeqa_summary": "tiny_qa",
    "truthfulqa_gen": "tiny_facts",
}
"""Tasks whose data is on the network, and our own task of the same kind that runs in their place, under their name."""


IMPORTED_GPU = "NVIDIA GeForce RTX 5090"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sweep of the proof."""

    name: str
    sweep: str
    """The sweep file, or with `is_import` the table, relative to this checkout."""
    gpu: str = "sim"
    repeats: int | None = None
    """At most so many."""
    min_window_s: float | None = None
    """At most so long."""
    num_spaced: int | None = None
    """At most so many of { spaced = N }."""
    limit: int | None = None
    """At most so many documents of each task."""
    arguments: tuple[str, ...] = ()
    """For `sweep run`, beside file, GPUs and engine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    conditions: Sequence[Mapping[str, Any]] = ()
    """What befalls the GPU: `proof/site/sitecustomize.py`."""
    faults: Sequence[Mapping[str, Any]] = ()
    """What its NVIDIA driver does: the same."""
    stops_after: int | None = None
    """A first run ends after so many trials; a second one goes on."""
    is_import: bool = False


_CONDITIONS = (
    {"after_s": 40, "ignores_locks": True},
    {"after_s": 75},
    {"after_s": 90, "max_sm_clock_mhz": 1005},
    {"after_s": 115, "foreign_power_w": 60.0, "foreign_slowdown": 1.25, "foreign_process_ids": [4242, 4243]},
    {"after_s": 140, "foreign_power_w": 25.0},
    {"after_s": 165, "foreign_memory_bytes": 10_000_000_000, "max_sm_clock_mhz": 1395, "slowdown_reasons": 0x40},
    {"after_s": 185},
)
"""Ignored locks, heat, somebody else's work, somebody else's work unseen, memory that is in use and a hard slowdown."""

_SAMPLES, _COUNTER = "nvmlDeviceGetSamples", "nvmlDeviceGetTotalEnergyConsumption"
_FAULTS = (
    {"function": _SAMPLES, "after_s": 40, "until_s": 46, "error": 6},
    {"function": _COUNTER, "after_s": 65, "until_s": 1e9, "add": -5_000_000},
    {"function": "nvmlDeviceGetPowerManagementLimit", "after_s": 85, "until_s": 87, "add": -50_000},
    {"function": "nvmlDeviceSetGpuLockedClocks", "after_s": 92, "until_s": 100, "error": 999},
    {"function": _SAMPLES, "after_s": 112, "until_s": 117, "error": 6},
    {"function": _COUNTER, "after_s": 129, "until_s": 1e9, "add": 300_000},
    {"function": _SAMPLES, "after_s": 142, "until_s": 155, "error": 999},
    {"function": _COUNTER, "after_s": 142, "until_s": 155, "error": 999},
    {"function": "nvmlDeviceGetComputeRunningProcesses", "after_s": 160, "until_s": 170, "error": 3},
    {"function": "nvmlDeviceGetClockInfo", "after_s": 175, "until_s": 190, "error": 999},
    {"function": _COUNTER, "after_s": 240, "until_s": 250, "error": 3},
)
"""Samples that are missing or late, a counter set back or too fast, neither of them, a limit that reverts, locks that
are refused, readings that fail, a counter that is no longer supported."""

_SENSORS = ("a100", "h100", "rtx5090", "average-only", "counter-only")

CASES = (
    Case(name="demo", sweep="sweeps/demo.toml"),
    Case(name="evidence", sweep="sweeps/evidence.toml"),
    Case(name="inputs", sweep="sweeps/inputs.toml", limit=12),
    Case(name="phases", sweep="sweeps/phases.toml", repeats=2),
    Case(name="shapes", sweep="sweeps/shapes.toml", repeats=2, min_window_s=5.0),
    Case(name="clocks", sweep="sweeps/clocks.toml", repeats=1, min_window_s=2.5, num_spaced=4, limit=30),
    Case(name="paper", sweep="sweeps/paper.toml", repeats=1, min_window_s=2.0, num_spaced=2, limit=12),
    Case(name="paper-small", sweep="sweeps/paper-small.toml"),
    Case(name="paper-shapes", sweep="sweeps/paper-shapes.toml", repeats=1, min_window_s=2.5, num_spaced=3),
    Case(name="verdicts", sweep="scripts/proof/verdicts.toml"),
    Case(name="retries", sweep="scripts/proof/retries.toml"),
    Case(name="axes", sweep="scripts/proof/axes.toml"),
    Case(name="rtx5090", sweep="scripts/proof/rtx5090.toml", gpu="sim:rtx5090"),
    Case(name="sensors", sweep="scripts/proof/sensors.toml"),
    *(
        Case(name=f"sensors-{kind}", sweep="scripts/proof/sensors.toml", gpu=f"sim:h200+{kind}", repeats=1)
        for kind in _SENSORS
    ),
    Case(name="read-only", sweep="scripts/proof/sensors.toml", arguments=("--clocks", "read-only")),
    Case(name="two-gpus", sweep="scripts/proof/blocks.toml", gpu="sim:h200x2"),
    Case(name="resumed", sweep="scripts/proof/blocks.toml", stops_after=8),
    Case(name="denied", sweep="scripts/proof/blocks.toml", environment={"SWEEP_SIMULATED_PERMISSION": "denied"}),
    Case(name="conditions", sweep="scripts/proof/faults.toml", conditions=_CONDITIONS),
    Case(name="faults", sweep="scripts/proof/faults.toml", faults=_FAULTS),
    Case(name="import", sweep="reference/rtx5090_clock_grid.csv", is_import=True),
)


def write_sweep(case: Case, folder: Path) -> tuple[Path, list[str]]:
    """Write the sweep file that a case runs; returns it, and what of the original was changed."""
    source = CHECKOUT / case.sweep
    if case.is_import:
        return _name_gpu(source, folder), [f"gpu_name is {IMPORTED_GPU}"]
    document = tomllib.loads(source.read_text(encoding="utf-8"))
    changes = [*_replace_tasks(document), *_shorten(document, case)]
    _tell_apart(document["task"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.name}.toml"
    path.write_text(_to_toml(document), encoding="utf-8")
    return path, changes


def _name_gpu(table: Path, folder: Path) -> Path:
    """Write a published table with a column for its GPU. Without it each side makes up a name in its own words."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / table.name
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    lines = [f"{header},gpu_name", *(f"{row},{IMPORTED_GPU}" for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _replace_tasks(document: dict[str, Any]) -> list[str]:
    """Let our own tasks stand in for those whose data is on the network; names in tables and axes stay as they were."""
    changes = []
    for task in document["task"]:
        name = task["name"]
        if name not in OWN_TASKS:
            task |= {"name": STANDINS[name], "label": task.get("label", name)}
            task.pop("quality_metric", None)
            changes.append(f"{name} is {STANDINS[name]}")
    return changes


def _shorten(document: dict[str, Any], case: Case) -> list[str]:
    changes = []
    for name, most in (("repeats", case.repeats), ("min_window_s", case.min_window_s)):
        if most is not None and document[name] > most:
            changes.append(f"{name} {document[name]} is {most}")
            document[name] = most
    if case.limit is not None:
        for task in document["task"]:
            task |= {name: min(task[name], case.limit) for name in ("limit", "num_requests") if name in task}
        changes.append(f"at most {case.limit} documents of a task")
    for axes in (document["axes"], *document.get("override", ())) if case.num_spaced else ():
        for name in [name for name in axes if name.endswith("_clock")]:
            axes[name] = [_space_less(value, case.num_spaced or 0) for value in axes[name]]
        changes.append(f"at most {case.num_spaced} clocks spaced")
    return list(dict.fromkeys(changes))


def _tell_apart(tasks: Sequence[dict[str, Any]]) -> None:
    """Give tasks that differ in their label alone a document less each: their trials would have the same ids."""
    known: list[dict[str, Any]] = []
    for task in tasks:
        while {**task, "label": None} in known:
            task["limit"] -= 1
        known.append({**task, "label": None})


def _space_less(value: Any, num_spaced: int) -> Any:
    return {"spaced": min(value["spaced"], num_spaced)} if isinstance(value, dict) else value


def _to_toml(document: Mapping[str, Any]) -> str:
    """Return a sweep as TOML: plain values first, then its tables."""
    lines = [f"{key} = {_to_value(value)}" for key, value in document.items() if not _is_tables(value)]
    for key, tables in document.items():
        for table in tables if _is_tables(tables) else ():
            lines += ["", f"[[{key}]]", *(f"{name} = {_to_value(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "spaced" not in value[0]


def _to_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_to_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
