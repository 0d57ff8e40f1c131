"""How a run was measured and judged, in the few sentences that end a page; docs/measurement.md has the rest."""

from collections.abc import Iterator, Mapping
from typing import Any


def describe_method(*, imported: bool, is_default_only: bool) -> Iterator[str]:
    """Say how trials were measured and compared, a paragraph each.

    Args:
        imported: the values were measured elsewhere.
        is_default_only: no other operating point was measured.
    """
    if not imported:
        yield (
            "A trial measures one operating point once, in a window in which the stated number of requests is kept in "
            "flight. Its energy is the integral of the GPU's power samples over the window, checked against the GPU's "
            "own energy counter. Only trials without a verdict count."
        )
    if is_default_only:
        yield "Intervals are 95 %."
    else:
        around = "" if imported else " just before and after each of its trials"
        yield (
            f"Every operating point is compared with the default clock{around}. Intervals are 95 %. Those of the "
            "recommended operating points are wider than those of the tables, because the least of many values is "
            "partly luck (Bonferroni). Limits are checked against means. Where an interval reaches beyond a limit, the "
            "recommendation says so."
        )
        yield (
            "One operating point for all is judged by the mean of the changes. Each combination of model, task and "
            "requests in flight counts the same, as if all spent the same energy at the default clock."
        )
    yield "The Pareto front compares means only."


def describe_provenance(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a run can be traced back by: GPUs, versions, the git revision and its commands, each with its term."""
    for gpu in manifest.get("gpus", []):
        yield "GPU", f"{gpu['name']}, {gpu['uuid']}, driver {gpu['driver_version']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    if revision := manifest.get("git_revision"):
        yield "revision", revision
    for run in manifest.get("runs", []):
        yield "run", f"{run['start']} to {run['end'] or 'now'}: {run['command']}"
