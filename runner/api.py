"""The Python interface: read a sweep file, plan it, run it, open what it left. The command line is a skin over it.

A sweep file enters. A `Plan`, a `RunOutcome` or a `Run` leaves. docs/python.md shows a whole study.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runner.opened_run import Run, open_run
from runner.results.outcome import RunOutcome
from runner.results.run_directory import RunStore
from runner.spec.sweep import SweepSpec, parse_sweep
from runner.spec.sweep import load_sweep as load_sweep_file
from runner.spec.trial import Block, expand_trials

if TYPE_CHECKING:
    from runner.execution.driver.manifest import RunOptions
    from runner.execution.gpu_group import GpuGroup
    from runner.results.live import SweepView
    from runner.results.plan import Plan

__all__ = [
    "RUNS",
    "ClocksMode",
    "EngineKind",
    "PlannedSweep",
    "Run",
    "load_sweep",
    "open_run",
    "plan_sweep",
    "run_sweep",
]

ClocksMode = Literal["apply", "read-only"]
EngineKind = Literal["vllm", "simulated"]
RUNS = Path("runs")
"""Where run directories lie unless a caller says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSweep:
    """A plan, and what stands in the way of running it."""

    plan: "Plan"
    warnings: tuple[str, ...]
    """What could not be asked or checked from here, such as a model hub that does not answer."""
    problem: Exception | None
    """What `run_sweep` would refuse the sweep for; None: nothing is known."""


def load_sweep(source: str | os.PathLike[str] | Mapping[str, Any]) -> SweepSpec:
    """Read and check a sweep file, or a sweep that is a dict already.

    Raises: SweepFileError: something in it is not allowed, or names a task, a metric or a shape that does not exist.
        The message names each field, its value and what is allowed. An engine argument that vLLM lacks is one of them.
    """
    from runner.execution.preflight.feasibility import require_known_names

    if isinstance(source, Mapping):
        sweep, path = parse_sweep(dict(source)), None
    else:
        path = Path(source)
        sweep = load_sweep_file(path)
    require_known_names(sweep, path)
    return sweep


def plan_sweep(
    sweep: SweepSpec,
    *,
    gpu: str = "auto",
    out: str | os.PathLike[str] | None = None,
    clocks: ClocksMode | None = None,
    server: str | None = None,
    server_gpus: str | None = None,
    path: Path | None = None,
) -> PlannedSweep:
    """Say what would run, in which order, for how long and at what energy. Nothing is started or set.

    Args:
        gpu: which GPUs, as `sweep plan --gpu` takes it.
        out: the run directory, whose finished trials are not counted again; runs/NAME unless given.
        clocks: read-only plans the default clocks alone; as the sweep file says unless given.
        server, server_gpus: as for `run_sweep`.
        path: the sweep file, named in messages.
    Raises: NoGpuError: there is no such GPU. TaskError, SweepFileError, ValueError: the sweep cannot be planned.
    """
    from runner.execution.driver.chosen_gpus import choose_gpus
    from runner.execution.preflight.model_access import check_access
    from runner.execution.preflight.plan import plan_sweep as make_plan
    from runner.execution.preflight.refusals import find_problem, list_warnings

    read_only = _is_read_only(clocks, sweep)
    chosen = choose_gpus(sweep, gpu, server, server_gpus, joins_cluster=False, path=path)
    groups = chosen.groups or ()
    blocks = expand_trials(sweep, read_only=read_only)
    models = check_access(sweep.models) if chosen.server is None else []
    finished = RunStore(_directory(out, sweep)).finished_trial_ids()
    plan = make_plan(sweep, blocks, [group.info for group in groups], read_only=read_only, finished=finished)
    return PlannedSweep(
        plan=plan,
        warnings=(*list_warnings(sweep, groups, models, opens_engine=chosen.server is None), *chosen.warnings),
        problem=find_problem(sweep, path, blocks, groups, models, opens_engine=chosen.server is None),
    )


def run_sweep(
    sweep: SweepSpec,
    *,
    gpu: str = "auto",
    out: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    clocks: ClocksMode | None = None,
    engine: EngineKind = "vllm",
    address: str | None = None,
    server: str | None = None,
    server_gpus: str | None = None,
    limit: int | None = None,
    show: "Callable[[SweepView], None]" = lambda _: None,
    path: Path | None = None,
) -> RunOutcome:
    """Run a sweep, or resume it: finished trials are not repeated. Clocks are put back whatever happens.

    Args:
        gpu: which GPUs, as `sweep run --gpu` takes it.
        out: the run directory; runs/NAME unless given.
        fresh: forget what the run directory holds.
        clocks: read-only sets nothing and measures at the default clocks; as the sweep file says unless given.
        engine: simulated computes everything in virtual time, on simulated GPUs only.
        address: a Ray cluster to run on, HOST:PORT; RAY_ADDRESS unless given, else this machine.
        server, server_gpus: a server that runs already and its GPU, as `sweep run` takes them (docs/server.md).
        limit: at most so many trials in this run.
        show: takes the live view, a few times a second.
        path: the sweep file, named in messages.
    Raises: SweepFileError, TaskError, RunDirectoryError, ValueError: the sweep or the call is wrong. GpuError,
        EngineError, ClusterError, ModelAccessError, ServerError: the machine cannot do it. Nothing is lost either way.
    """
    from runner.execution.driver.chosen_gpus import choose_gpus
    from runner.execution.driver.manifest import RunOptions, close_finished_run
    from runner.execution.preflight.feasibility import require_possible
    from runner.execution.preflight.refusals import require_engine, require_gpus
    from runner.execution.preflight.used_directory import require_same_sweep

    # What is wrong with the sweep, the call or the GPUs here is known before the run directory is touched.
    chosen = choose_gpus(sweep, gpu, server, server_gpus, address=address, engine=engine, path=path)
    options = RunOptions(
        engine=chosen.engine,
        server=chosen.server,
        read_only=_is_read_only(clocks, sweep),
        limit=limit,
        command=" ".join(["sweep", *sys.argv[1:]]),
    )
    require_possible(chosen.groups or (), engine)
    if options.engine == "vllm":
        require_engine(sweep, path)
    blocks = expand_trials(sweep, read_only=options.read_only)
    require_gpus(sweep, blocks, chosen.groups or (), opens_engine=chosen.server is None)
    with RunStore(_directory(out, sweep)) as store:
        if not fresh:
            require_same_sweep(store, sweep, blocks)
            if close_finished_run(store, sweep, blocks, options=options):
                num_trials = sum(len(block.trials) for block in blocks)
                return RunOutcome(num_ok=num_trials, num_in_sweep=num_trials, was_finished=True)
        return _run_blocks(
            sweep, blocks, chosen.groups, store=store, options=options, gpu=gpu, address=address, fresh=fresh, show=show
        )


def _run_blocks(
    sweep: SweepSpec,
    blocks: Sequence[Block],
    local_groups: "Sequence[GpuGroup] | None",
    *,
    store: RunStore,
    options: "RunOptions",
    gpu: str,
    address: str | None,
    fresh: bool,
    show: "Callable[[SweepView], None]",
) -> RunOutcome:
    """Start Ray, or join the cluster, and run the blocks.

    Args:
        local_groups: the GPUs to use; None: those of the cluster.
    """
    from runner.execution.driver.cluster import find_gpu_groups, ray_session
    from runner.execution.driver.manifest import keep_commits
    from runner.execution.preflight.feasibility import require_possible
    from runner.execution.preflight.model_access import check_access, require_access
    from runner.execution.preflight.refusals import require_gpus
    from runner.results.live_file import publish_views

    if options.engine == "vllm":
        commits = require_access(check_access(sweep.models))
        options = replace(options, commits=keep_commits(sweep, commits, None if fresh else store.read_manifest()))
    with ray_session(address):
        from runner.execution.driver.run import run_sweep as run_trials  # imports Ray, which must be set up first

        groups = find_gpu_groups(gpu, address) if local_groups is None else local_groups
        require_possible(groups, options.engine)
        require_gpus(sweep, blocks, groups, opens_engine=options.server is None)
        if fresh:
            store.clear()
        show_and_publish = publish_views(store.directory, show)
        return run_trials(sweep, blocks, groups, store=store, options=options, show=show_and_publish)


def _directory(out: str | os.PathLike[str] | None, sweep: SweepSpec) -> Path:
    return Path(out) if out is not None else RUNS / sweep.name


def _is_read_only(clocks: ClocksMode | None, sweep: SweepSpec) -> bool:
    from runner.hardware.access.read_only import resolve_clocks_mode

    return resolve_clocks_mode(clocks, sweep.clocks) == "read-only"
