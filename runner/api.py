"""The Python interface: read a sweep file, plan it, run it, open what it left. The command line is a skin over it.

A sweep file enters. A `Plan`, a `RunOutcome` or a `Run` leaves. docs/python.md shows a whole study.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from runner.analysis.advice.limits import parse_limits
from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.study import Study
from runner.display.report.reading import read_study
from runner.results.outcome import RunOutcome
from runner.results.run_directory import RunStore
from runner.results.run_directory import open_run as open_store
from runner.spec.sweep import SweepSpec, parse_sweep
from runner.spec.sweep import load_sweep as load_sweep_file
from runner.spec.trial import Block, expand_trials

if TYPE_CHECKING:
    from runner.execution.driver.manifest import RunOptions
    from runner.execution.gpu_group import GpuGroup
    from runner.results.live import SweepView
    from runner.results.plan import Plan

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
    path: Path | None = None,
) -> PlannedSweep:
    """Say what would run, in which order, for how long and at what energy. Nothing is started or set.

    Args:
        gpu: which GPUs, as `sweep plan --gpu` takes it.
        out: the run directory, whose finished trials are not counted again; runs/NAME unless given.
        clocks: read-only plans the default clocks alone; as the sweep file says unless given.
        path: the sweep file, named in messages.
    Raises: NoGpuError: there is no such GPU. TaskError, SweepFileError, ValueError: the sweep cannot be planned.
    """
    from runner.execution.driver.cluster import find_gpu_groups
    from runner.execution.preflight.model_access import check_access
    from runner.execution.preflight.plan import plan_sweep as make_plan
    from runner.execution.preflight.refusals import find_problem, list_warnings

    read_only = _is_read_only(clocks, sweep)
    groups = find_gpu_groups(gpu, None)
    blocks = expand_trials(sweep, read_only=read_only)
    models = check_access(sweep.models)
    finished = RunStore(_directory(out, sweep)).finished_trial_ids()
    plan = make_plan(sweep, blocks, [group.info for group in groups], read_only=read_only, finished=finished)
    return PlannedSweep(
        plan=plan,
        warnings=list_warnings(sweep, groups, models),
        problem=find_problem(sweep, path, blocks, groups, models),
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
        limit: at most so many trials in this run.
        show: takes the live view, a few times a second.
        path: the sweep file, named in messages.
    Raises: SweepFileError, TaskError, RunDirectoryError, ValueError: the sweep or the call is wrong. GpuError,
        EngineError, ClusterError, ModelAccessError: the machine cannot do it. Nothing is lost in either case.
    """
    from runner.execution.driver.cluster import cluster_address, find_gpu_groups
    from runner.execution.driver.manifest import RunOptions, close_finished_run
    from runner.execution.preflight.refusals import require_engine, require_gpus
    from runner.execution.preflight.used_directory import require_same_sweep

    options = RunOptions(
        engine=engine,
        read_only=_is_read_only(clocks, sweep),
        limit=limit,
        command=" ".join(["sweep", *sys.argv[1:]]),
    )
    # What is wrong with the sweep, the call or this machine's GPUs is known before the run directory is touched.
    local_groups = None if cluster_address(address) else find_gpu_groups(gpu, None)
    _require_possible(local_groups or (), engine)
    if engine == "vllm":
        require_engine(sweep, path)
    blocks = expand_trials(sweep, read_only=options.read_only)
    require_gpus(sweep, blocks, local_groups or ())
    with RunStore(_directory(out, sweep)) as store:
        if not fresh:
            require_same_sweep(store, sweep, blocks)
            if close_finished_run(store, sweep, blocks, options=options):
                num_trials = sum(len(block.trials) for block in blocks)
                return RunOutcome(num_ok=num_trials, num_in_sweep=num_trials, was_finished=True)
        return _run_blocks(
            sweep, blocks, local_groups, store=store, options=options, gpu=gpu, address=address, fresh=fresh, show=show
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
    from runner.execution.preflight.model_access import check_access, require_access
    from runner.execution.preflight.refusals import require_gpus
    from runner.results.live_file import publish_views

    if options.engine == "vllm":
        commits = require_access(check_access(sweep.models))
        options = replace(options, commits=keep_commits(sweep, commits, None if fresh else store.read_manifest()))
    with ray_session(address):
        from runner.execution.driver.run import run_sweep as run_trials  # imports Ray, which must be set up first

        groups = find_gpu_groups(gpu, address) if local_groups is None else local_groups
        _require_possible(groups, options.engine)
        require_gpus(sweep, blocks, groups)
        if fresh:
            store.clear()
        show_and_publish = publish_views(store.directory, show)
        return run_trials(sweep, blocks, groups, store=store, options=options, show=show_and_publish)


class Run:
    """A run that exists, read-only: its rows, its raw data and what they say.

    Args:
        store: the run directory.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    @property
    def directory(self) -> Path:
        """Where the run lies."""
        return self._store.directory

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: the sweep, the versions, the GPUs and their sensors."""
        return self._store.read_manifest() or {}

    @property
    def trials(self) -> pl.DataFrame:
        """[num_trials] rows of `tables.TRIALS`: one a trial and attempt, failed ones included."""
        return complete_trials(self._store.read_trials(self._store.planned_trial_ids()))

    @property
    def samples(self) -> pl.DataFrame:
        """[num_samples] rows of `tables.SAMPLES`: the prompts with the features of their text."""
        return self._store.read_samples()

    def requests(self, trial_ids: Sequence[str]) -> pl.LazyFrame:
        """Return the requests of some trials, not yet read: rows of `tables.REQUESTS`."""
        return self._store.scan_requests(trial_ids)

    def power(self, trial_id: str) -> pl.DataFrame:
        """Return the power trace around a trial's window: [num_samples] rows of `tables.POWER`."""
        return self._store.read_power(trial_id)

    def study(
        self,
        *,
        max_slowdown: str | None = None,
        min_quality_change: str | None = None,
        max_ttft: str | None = None,
        max_tpot: str | None = None,
    ) -> Study:
        """Return everything that is said of the run: operating points, recommendations, the Pareto front and more.

        Args:
            max_slowdown, min_quality_change, max_ttft, max_tpot: what a recommended operating point must keep, written
                as for `sweep report`: "5%", "-0.5%", "0.5s", "50ms".
        Raises: ValueError: one of them cannot be read.
        """
        limits = parse_limits(
            max_slowdown=max_slowdown, min_quality_change=min_quality_change, max_ttft=max_ttft, max_tpot=max_tpot
        )
        return read_study(self._store, limits)


def open_run(directory: str | os.PathLike[str]) -> Run:
    """Open a run directory to read it. Raises: RunDirectoryError: there is no run."""
    return Run(open_store(Path(directory)))


def _directory(out: str | os.PathLike[str] | None, sweep: SweepSpec) -> Path:
    return Path(out) if out is not None else RUNS / sweep.name


def _is_read_only(clocks: ClocksMode | None, sweep: SweepSpec) -> bool:
    from runner.hardware.access.read_only import resolve_clocks_mode

    return resolve_clocks_mode(clocks, sweep.clocks) == "read-only"


def _require_possible(groups: "Sequence[GpuGroup]", engine: str) -> None:
    """Refuse at once what would fail for every trial."""
    from runner.hardware.gpu import NoGpuError

    simulated = [group.info.simulated for group in groups]
    if engine == "simulated" and not all(simulated):
        raise ValueError("--engine simulated computes on simulated GPUs only: add --gpu sim")
    if any(simulated) and not all(simulated):
        raise NoGpuError("real and simulated GPUs cannot be mixed in one run")
