"""`sweep run`, `sweep plan` and `sweep watch`."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, explained_errors
from runner.cli.options import (
    AddressOption,
    ClocksMode,
    ClocksOption,
    EngineKind,
    EngineOption,
    GpuOption,
    JsonOption,
    OutOption,
    RunDirectory,
    SweepFile,
)
from runner.cli.report import print_report

if TYPE_CHECKING:
    from runner.display.live.dashboard import Dashboard
    from runner.display.live.plain_lines import PlainLines
    from runner.execution.driver.cluster import GpuGroup
    from runner.spec.sweep import SweepSpec

WATCH_PERIOD_S = 0.5


def run(
    file: SweepFile,
    gpu: GpuOption = "auto",
    out: OutOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the run directory holds and start anew.")] = False,
    clocks: ClocksOption = None,
    engine: EngineOption = EngineKind.VLLM,
    address: AddressOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of the dashboard.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most N trials now; the next run goes on.")
    ] = None,
) -> None:
    """Run a sweep. Running it again goes on where it stopped; finished trials are not repeated.

    Clocks are put back whatever happens. For example: `sweep run sweeps/shapes.toml --gpu 0,2`; where clocks may not be
    set, `sweep run sweeps/shapes.toml --clocks read-only`; without a GPU and without vLLM, in a minute,
    `sweep run sweeps/inputs.toml --gpu sim --engine simulated`.
    """
    with explained_errors():
        sweep = _load(file)
        read_only = _is_read_only(clocks, sweep)
        from dataclasses import replace

        from runner.execution.driver.cluster import cluster_address, find_gpu_groups, ray_session
        from runner.execution.driver.manifest import RunOptions, close_finished_run, keep_commits
        from runner.execution.preflight.feasibility import require_settable, require_tokenizers
        from runner.execution.preflight.model_access import check_access, require_access
        from runner.results.live_file import publish_views
        from runner.results.run_directory import RunStore
        from runner.spec.trial import expand_trials

        _interrupt_on_signals()
        joins_cluster = bool(cluster_address(address))
        local_groups = [] if joins_cluster else find_gpu_groups(gpu, None)
        _require_possible(local_groups, engine)
        if engine is EngineKind.VLLM:
            require_tokenizers(sweep, file)
        directory = out or Path("runs") / sweep.name
        blocks = expand_trials(sweep, read_only=read_only)
        require_settable(blocks, local_groups)
        command = " ".join(["sweep", *sys.argv[1:]])
        options = RunOptions(engine=engine.value, read_only=read_only, limit=limit, command=command)
        with RunStore(directory) as store:
            if not fresh and close_finished_run(store, sweep, blocks, options=options):
                print("nothing left to run: every trial is finished (--fresh runs them again)")
                print_report(directory)
                return
            if engine is EngineKind.VLLM:
                commits = require_access(check_access(sweep.model))
                options = replace(
                    options, commits=keep_commits(sweep, commits, None if fresh else store.read_manifest())
                )
            with _display(plain) as screen, ray_session(address):
                from runner.execution.driver.run import run_sweep

                groups = find_gpu_groups(gpu, address) if joins_cluster else local_groups
                _require_possible(groups, engine)
                require_settable(blocks, groups)
                if fresh:
                    store.clear()
                show = publish_views(directory, screen.update)
                outcome = run_sweep(sweep, blocks, groups, store=store, options=options, show=show)
            if outcome.interrupted:
                raise typer.Exit(EXIT_INTERRUPTED)
            print_report(directory)
            left = {trial.trial_id for block in blocks for trial in block.trials} - store.finished_trial_ids()
            if limit and left:
                print(f"--limit {limit}: {len(left):,} of the sweep's trials are left; the same command goes on")
    if outcome.num_failed or outcome.num_left:
        raise typer.Exit(EXIT_FAILED_TRIALS)


def plan(
    file: SweepFile,
    gpu: GpuOption = "auto",
    out: OutOption = None,
    clocks: ClocksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would run, in which order, for how long and at what energy. Nothing is started or set.

    What is finished in the run directory is not counted again. For example: `sweep plan sweeps/paper.toml`, or for
    machines that are not here `sweep plan sweeps/paper.toml --gpu sim:h200x4`.
    """
    with explained_errors():
        sweep = _load(file)
        read_only = _is_read_only(clocks, sweep)
        from runner.execution.driver.cluster import find_gpu_groups
        from runner.execution.preflight.feasibility import require_settable, require_tokenizers
        from runner.execution.preflight.model_access import check_access, require_access
        from runner.execution.preflight.plan import plan_sweep
        from runner.results.run_directory import RunStore
        from runner.spec.trial import expand_trials

        groups = find_gpu_groups(gpu, None)
        blocks = expand_trials(sweep, read_only=read_only)
        models = check_access(sweep.model)
        finished = RunStore(out or Path("runs") / sweep.name).finished_trial_ids()
        planned = plan_sweep(sweep, blocks, [group.info for group in groups], read_only=read_only, finished=finished)
        if as_json:
            print(json.dumps(planned.to_json(), indent=1))
        else:
            from rich.console import Console

            from runner.display.plan import render_plan

            Console().print(render_plan(planned))
        for model in models:
            if model.problem == "unreachable":
                print(f"sweep: warning: {model.message}", file=sys.stderr)
        require_tokenizers(sweep, file)
        require_settable(blocks, groups)
        require_access([model for model in models if model.problem != "unreachable"])


def watch(
    run_directory: RunDirectory,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of the dashboard.")] = False,
) -> None:
    """Show the dashboard of a run that goes on in another terminal, until it ends. Ctrl-C ends the watching alone.

    For example: `sweep watch runs/shapes`.
    """
    with explained_errors():
        from runner.results.live_file import read_view
        from runner.results.run_directory import open_run

        store = open_run(run_directory)
        if not store.is_in_use():
            print(f"no run goes on in {run_directory}; sweep report {run_directory} shows what it found")
            return
        with _display(plain) as screen:
            try:
                while store.is_in_use():
                    if view := read_view(run_directory):
                        screen.update(view)
                    time.sleep(WATCH_PERIOD_S)
            except KeyboardInterrupt:
                return
        print(f"the run has ended; sweep report {run_directory} shows what it found")


def _load(file: Path) -> "SweepSpec":
    from runner.execution.preflight.feasibility import require_known_names
    from runner.spec.sweep import load_sweep

    sweep = load_sweep(file)
    require_known_names(sweep, file)
    return sweep


def _is_read_only(clocks: ClocksMode | None, sweep: "SweepSpec") -> bool:
    from runner.hardware.access.read_only import resolve_clocks_mode

    return resolve_clocks_mode(clocks.value if clocks else None, sweep.clocks) == "read-only"


def _interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: whole files, default clocks. `nohup` keeps its meaning."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _require_possible(groups: "list[GpuGroup]", engine: EngineKind) -> None:
    """Refuse at once what would fail for every trial."""
    from runner.hardware.gpu import NoGpuError

    simulated = [group.info.simulated for group in groups]
    if engine is EngineKind.SIMULATED and not all(simulated):
        raise ValueError("--engine simulated computes on simulated GPUs only: add --gpu sim")
    if any(simulated) and not all(simulated):
        raise NoGpuError("real and simulated GPUs cannot be mixed in one run")


@contextmanager
def _display(plain: bool) -> "Iterator[Dashboard | PlainLines]":
    """Show the dashboard on a terminal, lines of text everywhere else."""
    if plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        from runner.display.live.plain_lines import PlainLines

        with PlainLines() as lines:
            yield lines
    else:
        from runner.display.live.dashboard import Dashboard

        with Dashboard() as dashboard:
            yield dashboard
