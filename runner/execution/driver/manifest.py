"""The manifest: what was asked for, with which versions, on which GPUs, and when."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.analysis.run.completed_trials import complete_trials
from runner.execution.gpu_group import GpuDescription
from runner.execution.worker.fingerprint import DECISIVE_PACKAGES
from runner.inference.server.facts import AttachedServer
from runner.results.run_directory import RunDirectoryError, RunStore
from runner.results.sensors import SensorFindings
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How a sweep is run. The sweep file says what it measures."""

    engine: str
    read_only: bool
    limit: int | None = None
    command: str = ""
    commits: Mapping[str, str] = field(default_factory=dict)
    """The commit that each model of the hub is pinned to for the whole run, by label."""
    server: AttachedServer | None = None
    """The server that the run attaches to; None unless the engine is "server"."""


def build_manifest(
    sweep: SweepSpec,
    descriptions: Sequence[GpuDescription],
    *,
    options: RunOptions,
    num_trials: int,
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the manifest of a run that begins, or that resumes the run of `earlier`.

    Args:
        descriptions: one for each worker.
        earlier: the manifest in the run directory; None where there is none.
    Raises: RunDirectoryError: the earlier run used another NVIDIA driver, engine or version.
    """
    placements = [description.placement for description in descriptions]
    fingerprints = {placement.gpu_name: placement.fingerprint for placement in placements}
    versions = descriptions[0].versions if descriptions else {}
    manifest = {
        **_describe_sweep(sweep, num_trials),
        "simulated": any(description.info.simulated for description in descriptions),
        "options": {
            "engine": options.engine,
            "read_only": options.read_only,
            "command": options.command,
            **({} if options.server is None else {"server": _describe_server(options.server)}),
        },
        "models": _describe_models(sweep, options.commits),
        "versions": versions,
        "git_revision": _git_revision(),
        "fingerprints": {**(earlier or {}).get("fingerprints", {}), **fingerprints},
        "gpus": _merge_gpus((earlier or {}).get("gpus", []), descriptions),
        "hosts": sorted({*(earlier or {}).get("hosts", []), *(placement.host for placement in placements)}),
        "runs": [*(earlier or {}).get("runs", []), {"start": _now(), "command": options.command, "end": None}],
    }
    if earlier:
        _require_same_fingerprints(earlier, manifest, fingerprints)
    return manifest


def keep_commits(sweep: SweepSpec, commits: Mapping[str, str], earlier: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the commits of a resumed run: those of the earlier run, even if the branches have moved on.

    Args:
        commits: the commit of each model's revision today, by label.
        earlier: the manifest of the earlier run; None where there is none.
    """
    before = {
        (model["id"], model["revision"]): model["commit"]
        for model in (earlier or {}).get("models", [])
        if model["commit"]
    }
    kept = {model.label: before.get((model.id, model.revision)) for model in sweep.models}
    return {**commits, **{label: commit for label, commit in kept.items() if commit}}


def close_finished_run(store: RunStore, sweep: SweepSpec, blocks: Sequence[Block], *, options: RunOptions) -> bool:
    """Return whether every trial is finished. If so, gather the trials and add this run to the manifest."""
    trial_ids = [trial.trial_id for block in blocks for trial in block.trials]
    earlier = store.read_manifest()
    if earlier is None or (earlier["options"]["engine"], earlier["options"]["read_only"]) != (
        options.engine,
        options.read_only,
    ):
        return False
    if not store.finished_trial_ids().issuperset(trial_ids):
        return False
    store.gather_trials(trial_ids, complete_trials)
    runs = [*earlier["runs"], {"start": _now(), "command": options.command, "end": None}]
    renewed = {**earlier, **_describe_sweep(sweep, len(trial_ids)), "runs": runs}  # the file may have fewer trials now
    store.write_manifest(close_manifest(renewed, "done"))
    return True


def close_manifest(manifest: dict[str, Any], outcome: str, sensors: Sequence[SensorFindings] = ()) -> dict[str, Any]:
    """Return the manifest with the end of the last run.

    Args:
        outcome: done, failed or interrupted.
        sensors: the workers' latest findings. A GPU without any keeps those in the manifest.
    """
    *before, last = manifest["runs"]
    known = {findings.gpu_uuid: {"sensors": findings.to_json()} for findings in sensors}
    return {
        **manifest,
        "gpus": [gpu | known.get(gpu["uuid"], {}) for gpu in manifest["gpus"]],
        "runs": [*before, {**last, "end": _now(), "outcome": outcome}],
    }


def _describe_sweep(sweep: SweepSpec, num_trials: int) -> dict[str, Any]:
    content = sweep.model_dump(mode="json")
    return {
        "name": sweep.name,
        "sweep": content,
        "sweep_hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        "num_trials": num_trials,
    }


def _describe_models(sweep: SweepSpec, commits: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Return each model with its revision and its commit. Both are null for a folder or a shape."""
    return [
        {"id": model.id, "label": model.label, "revision": model.revision, "commit": commits.get(model.label)}
        for model in sweep.models
    ]


def _describe_server(server: AttachedServer) -> dict[str, Any]:
    """Return what is known of a server. What it does not tell is null."""
    facts = server.facts
    return {
        "url": facts.address.url,
        "software": facts.software,
        "models": [asdict(model) for model in facts.models],
        "keeps_prefixes": facts.keeps_prefixes,
        "gpus_named": server.gpus_named,
    }


def _require_same_fingerprints(
    earlier: Mapping[str, Any], now: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> None:
    if "imported" in earlier:
        raise RunDirectoryError("this directory holds an imported table, not a run: give another --out")
    known: Mapping[str, str] = earlier.get("fingerprints", {})
    if all(known.get(name, mark) == mark for name, mark in fingerprints.items()):
        return
    before, after = _list_decisive(earlier), _list_decisive(now)
    changed = [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]
    raise RunDirectoryError(
        "this directory's trials were measured with other software, another driver or another engine "
        f"({', '.join(changed) or 'their fingerprints differ'}), and the two must not be mixed: "
        "start anew with --fresh, or give another --out"
    )


def _list_decisive(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what a fingerprint is made of, by name."""
    versions: Mapping[str, str] = manifest.get("versions", {})
    return {
        **{package: versions.get(package) for package in DECISIVE_PACKAGES},
        "engine": manifest.get("options", {}).get("engine"),
        "server": manifest.get("options", {}).get("server", {}).get("software"),
        **{f"driver of {gpu['name']}": gpu["driver_version"] for gpu in manifest.get("gpus", [])},
    }


def _merge_gpus(earlier: Iterable[Mapping[str, Any]], descriptions: Iterable[GpuDescription]) -> list[dict[str, Any]]:
    gpus = {gpu["uuid"]: dict(gpu) for gpu in earlier}
    for description in descriptions:
        info, placement = description.info, description.placement
        clocks = info.sm_clocks_mhz
        shown = {key: value for key, value in asdict(info).items() if key != "sm_clocks_mhz"}
        gpus[info.uuid] = {
            **shown,
            "sm_clock_mhz_min": clocks[0] if clocks else None,
            "sm_clock_mhz_max": clocks[-1] if clocks else None,
            "num_sm_clocks": len(clocks),
            "host": placement.host,
            "fingerprint": placement.fingerprint,
            "sensors": description.sensors.to_json(),
        }
    return list(gpus.values())


def _git_revision() -> str | None:
    """Return the revision of this program's checkout; None where it was installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
