"""The first lines of a report: how many trials there are, on which GPUs, and where imported values come from.

Rows of `tables.TRIALS` and the manifest enter; text leaves.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from runner.display.text.quantities import format_energy

NOTHING_YET = "No trial has finished yet."
SEVERAL_GPUS = (
    "Two GPUs of one kind differ by about 5 % in the energy that they report. "
    "Between rows of different GPUs, a smaller difference means nothing."
)


def name_run(manifest: Mapping[str, Any]) -> str:
    """Return the name of a run's sweep."""
    name: str = manifest.get("sweep", {}).get("name", "sweep")
    return name


def describe_counts(trials: pl.DataFrame) -> str:
    """Say how many trials there are, how many of them are sound, and how much energy they measured."""
    num_failed = trials.filter(pl.col("status") == "failed").height
    num_verdicts = trials.filter(pl.col("status") == "ok", pl.col("verdicts").list.len() > 0).height
    counts = [f"{trials.height:,} trials", f"{trials.height - num_failed - num_verdicts:,} sound"]
    counts += [f"{num_verdicts:,} with verdicts"] if num_verdicts else []
    counts += [f"{num_failed:,} failed"] if num_failed else []
    energy_j = trials["energy_j"].drop_nulls().to_list()
    return ", ".join([*counts, f"{format_energy(sum(energy_j))} measured"] if energy_j else counts)


def describe_gpus(trials: pl.DataFrame) -> list[str]:
    """Name the GPUs; of several, also say how far two of them may differ."""
    gpus = trials["gpu_uuids"].explode(empty_as_null=True).drop_nulls().n_unique()
    names = ", ".join(sorted(trials["gpu_name"].drop_nulls().unique())) or "unknown GPU"
    return [f"{names}, {gpus} GPUs", SEVERAL_GPUS] if gpus > 1 else [names]


def describe_import(manifest: Mapping[str, Any]) -> str:
    """Say where an imported table comes from, and what it lacks."""
    imported = manifest["imported"]
    default = " and ".join(imported["stands_for_default"])
    stand_in = f" It names no default clock; its highest clocks ({default}) stand for it." if default else ""
    lacks = f" It has no energy: {reason}." if (reason := imported.get("energy_reason")) else ""
    return f"Imported from {imported['file']}: measured elsewhere, and not checked by a power trace.{stand_in}{lacks}"
