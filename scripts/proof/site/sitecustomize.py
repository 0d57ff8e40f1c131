"""Python imports this at start where `prove_unchanged.py` puts its folder on PYTHONPATH, in any version of the program.

It makes two runs comparable to the last bit, and lets a simulated GPU and its NVIDIA driver fail at set instants. It
knows no module and no class of the program: only that a simulated GPU keeps its state in virtual-N/GPU-*/, the names of
the files in it, and the functions of NVML.

    SWEEP_PROOF_CONDITIONS   a JSON list of {"after_s": 30, ...}: what befalls a GPU so long after it was switched on
    SWEEP_PROOF_FAULTS       a JSON list of {"function", "after_s", "until_s", "error" | "add"}: what NVML does then
"""

import builtins
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WHOLE_NS = 32_000_000
"""Every instant of the wall clock is a multiple of this, so that virtual time starts at one. From there on, power
samples, which are stamped in whole µs, and ns since the epoch as floats, which today lie 256 ns apart, are rounded
alike in every run."""
VIRTUAL = "virtual-"
"""How the folders begin that hold the state of GPUs in virtual time; those of the wall clock are left alone."""
MARK = "faults.applied"
"""A file beside a GPU's state, for who has to know that the faults reached it."""
CONDITIONS: list[dict[str, Any]] = json.loads(os.environ.get("SWEEP_PROOF_CONDITIONS", "[]"))
FAULTS: list[dict[str, Any]] = json.loads(os.environ.get("SWEEP_PROOF_FAULTS", "[]"))

_time_ns = time.time_ns
_mkdir = os.mkdir
_build_class = builtins.__build_class__
_first_asked_ns: dict[Path, int] = {}
"""When NVML was first asked something, by the folder of its GPUs' state."""


def _whole_time_ns() -> int:
    return _time_ns() // WHOLE_NS * WHOLE_NS


def _mkdir_with_conditions(path: Any, *args: Any, **options: Any) -> None:
    """Add conditions when the state of a GPU that was switched on is opened: whoever does so makes its folder."""
    try:
        _mkdir(path, *args, **options)
    finally:
        _write_conditions(Path(os.fsdecode(path)))


def _write_conditions(gpu: Path) -> None:
    settings, conditions = gpu / "settings.jsonl", gpu / "conditions.jsonl"
    if not (gpu.name.startswith("GPU-") and gpu.parent.name.startswith(VIRTUAL)):
        return
    if not settings.exists() or conditions.exists():
        return
    start_ns = json.loads(settings.read_text().splitlines()[0])["time_ns"]
    lines = []
    for planned in CONDITIONS:
        values = {name: value for name, value in planned.items() if name != "after_s"}
        time_ns = start_ns + round(planned["after_s"] * 1e9)
        lines.append(json.dumps({"time_ns": time_ns, "foreign_process_ids": [], **values}) + "\n")
    conditions.write_text("".join(lines))


def _build_class_with_faults(*args: Any, **options: Any) -> Any:
    """Let the class that stands in for NVML have faulty functions."""
    made = _build_class(*args, **options)
    if "nvmlDeviceGetSamples" in made.__dict__ and hasattr(made, "NVMLError"):
        for fault in FAULTS:
            name = fault["function"]
            setattr(made, name, _with_fault(getattr(made, name), fault, made.NVMLError))
    return made


def _with_fault(true: Callable[..., Any], fault: dict[str, Any], error: type[Exception]) -> Callable[..., Any]:
    def call(nvml: Any, gpu: Any, *args: Any) -> Any:
        folder = Path(nvml.state_dir)
        now_ns = next(value for value in vars(nvml).values() if hasattr(value, "now_ns")).now_ns()
        elapsed_s = (now_ns - _first_asked_ns.setdefault(folder, now_ns)) * 1e-9
        if not (folder.name.startswith(VIRTUAL) and fault["after_s"] <= elapsed_s < fault["until_s"]):
            return true(nvml, gpu, *args)
        (folder / MARK).touch()
        if "error" in fault:
            raise error(fault["error"])
        return true(nvml, gpu, *args) + fault["add"]

    return call


time.time_ns = _whole_time_ns
if CONDITIONS:
    os.mkdir = _mkdir_with_conditions
if FAULTS:
    builtins.__build_class__ = _build_class_with_faults
