"""Names of models, loads, blocks, operating points and GPUs.

Rows of any table with the columns of a block or of an operating point enter; short text leaves.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.display.text.quantities import UNKNOWN
from runner.spec.load import LOAD_COLUMNS, Load, OpenLoop, Replay, read_load

Row = Mapping[str, Any]
"""A row of a table, by column."""

LOAD_HEADING = "in flight"
"""Stands above closed loops as `short_load` writes them."""


def name_workload(row: Row) -> str:
    """Name a task and its load, e.g. "qa, 16 in flight"."""
    return ", ".join([str(row["task"]), *_load_of(row)])


def name_block(row: Row) -> str:
    """Name a block by its task, model and load, e.g. "qa on org/model, 16 in flight"."""
    return ", ".join([f"{row['task']} on {row['model']}", *_load_of(row)])


def load_heading(loads: Iterable[Load | None]) -> str:
    """Return what stands above loads as `short_load` writes them."""
    return "load" if any(isinstance(load, OpenLoop | Replay) for load in loads) else LOAD_HEADING


def short_load(load: Load | None) -> str:
    """Write a load as it stands in a table below its heading, e.g. "16" or "2.5/s"; an en dash where it is unknown."""
    if isinstance(load, OpenLoop | Replay):
        return str(load).replace(" requests/s", "/s").replace(" of capacity)", ")")
    return UNKNOWN if load is None else str(load).removesuffix(f" {LOAD_HEADING}")


def load_parts(row: Row) -> list[Any]:
    """Return the parts of a load that are known, for the name of a file."""
    return [row[name] for name in LOAD_COLUMNS if row[name] is not None]


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return each model's name without its folder or owner, or in full where the short names would be equal."""
    short = {model: model.rsplit("/", 1)[-1] for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}


def name_point(row: Row) -> str:
    """Name an operating point by what was asked for, e.g. "990 MHz, memory 2201 MHz"."""
    asked = (
        ("{} MHz", row["sm_clock_mhz_requested"]),
        ("memory {} MHz", row["mem_clock_mhz_requested"]),
        ("limit {:.0f} W", row["power_limit_w_requested"]),
    )
    named = [form.format(value) for form, value in asked if value is not None]
    if row.get("clock_lock_requested") == "ceiling":
        named[0] = f"at most {named[0]}"
    return ", ".join(named) or "the default clock"


def short_point(row: Row) -> str:
    """Name an operating point in a table, e.g. "990 MHz" or "default"."""
    return name_point(row).removeprefix("the ").removesuffix(" clock")


def shortest_point(row: Row) -> str:
    """Name an operating point beside its mark in a plot, e.g. "2602/14001 MHz": SM clock, then memory clock."""
    clocks = [row[name] for name in ("sm_clock_mhz_requested", "mem_clock_mhz_requested") if row[name] is not None]
    limit = row["power_limit_w_requested"]
    most = "≤ " if row.get("clock_lock_requested") == "ceiling" else ""
    parts = [most + "/".join(f"{clock}" for clock in clocks) + " MHz"] if clocks else []
    return ", ".join(parts + ([f"{limit:.0f} W"] if limit is not None else [])) or "default"


def short_gpu_names(uuids: Sequence[str]) -> dict[str, str]:
    """Return the first groups of each UUID, as many as tell the GPUs apart and at least two, e.g. "GPU-1a2b3c4d"."""
    for num_groups in range(2, 7):
        names = {uuid: "-".join(uuid.split("-")[:num_groups]) for uuid in uuids}
        if len(set(names.values())) == len(uuids):
            return names
    return {uuid: uuid for uuid in uuids}


def one_line(text: str) -> str:
    """Join the lines of a message."""
    return " ".join(text.split())


def _load_of(row: Row) -> list[str]:
    load = read_load(row)
    return [] if load is None else [str(load)]
