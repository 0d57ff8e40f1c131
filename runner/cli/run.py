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

from runner.cli.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, explained_errors, quiet_broken_pipe
from runner.cli.options import (
    AddressOption,
    CarbonOption,
    ClocksOption,
    EngineKind,
    EngineOption,
    GpuOption,
    JsonOption,
    OutOption,
    PriceOption,
    PueOption,
    RunDirectory,
    ServerGpusOption,
    ServerOption,
    SweepFile,
)
from runner.cli.report import print_report

if TYPE_CHECKING:
    from runner.display.live.dashboard import Dashboard
    from runner.display.live.plain_lines import PlainLines
    from runner.results.outcome import RunOutcome

WATCH_PERIOD_S = 0.5


def run(
    file: SweepFile,
    gpu: GpuOption = "auto",
    out: OutOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the run directory holds and start anew.")] = False,
    clocks: ClocksOption = None,
    engine: EngineOption = EngineKind.VLLM,
    address: AddressOption = None,
    server: ServerOption = None,
    server_gpus: ServerGpusOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of the dashboard.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most N trials now; the next run resumes.")
    ] = None,
    price: PriceOption = None,
    carbon: CarbonOption = None,
    pue: PueOption = None,
) -> None:
    """Run a sweep. Running it again resumes it; finished trials are not repeated.

    Clocks are put back whatever happens. For example: `sweep run sweeps/shapes.toml --gpu 0,2`; where clocks may not be
    set, `sweep run sweeps/shapes.toml --clocks read-only`; without a GPU and without vLLM, in a minute,
    `sweep run sweeps/inputs.toml --gpu sim --engine simulated`; on a server that runs already,
    `sweep run sweeps/shapes.toml --server http://127.0.0.1:8000`.
    """
    with explained_errors():
        from runner.analysis.advice.tariff import parse_tariff
        from runner.api import RUNS, load_sweep, run_sweep

        tariff = parse_tariff(price=price, carbon=carbon, pue=pue)
        sweep = load_sweep(file)
        _interrupt_on_signals()
        directory = out or RUNS / sweep.name
        with _display(plain) as screen:
            outcome = run_sweep(
                sweep,
                gpu=gpu,
                out=directory,
                fresh=fresh,
                clocks=clocks.value if clocks else None,
                engine=engine.value,
                address=address,
                server=server,
                server_gpus=server_gpus,
                limit=limit,
                show=screen.update,
                path=file,
            )
        if outcome.interrupted:
            _say_what_is_kept(outcome, directory)
            raise typer.Exit(EXIT_INTERRUPTED)
        if outcome.was_finished:
            print("nothing left to run: every trial is finished (--fresh removes the results and starts anew)")
        print_report(directory, tariff=tariff)
        if limit and (num_left := outcome.num_in_sweep - outcome.num_ok):
            print(f"--limit {limit}: {num_left:,} of the sweep's trials are left; the same command resumes the sweep")
    if outcome.num_failed or outcome.num_left:
        raise typer.Exit(EXIT_FAILED_TRIALS)


def plan(
    file: SweepFile,
    gpu: GpuOption = "auto",
    out: OutOption = None,
    clocks: ClocksOption = None,
    server: ServerOption = None,
    server_gpus: ServerGpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would run, in which order, for how long and at what energy. Nothing is started or set.

    What is finished in the run directory is not counted again. For example: `sweep plan sweeps/paper.toml`, or for
    machines that are not here `sweep plan sweeps/paper.toml --gpu sim:h200x4`.
    """
    with explained_errors(), quiet_broken_pipe():
        from runner.api import load_sweep, plan_sweep

        sweep = load_sweep(file)
        planned = plan_sweep(
            sweep,
            gpu=gpu,
            out=out,
            clocks=clocks.value if clocks else None,
            server=server,
            server_gpus=server_gpus,
            path=file,
        )
        if as_json:
            print(json.dumps(planned.plan.to_json(), indent=1))
        else:
            from rich.console import Console

            from runner.display.plan import render_plan

            Console().print(render_plan(planned.plan))
        for warning in planned.warnings:
            print(f"sweep: warning: {warning}", file=sys.stderr)
        if planned.problem is not None:
            raise planned.problem


def watch(
    run_directory: RunDirectory,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text instead of the dashboard.")] = False,
) -> None:
    """Show the dashboard of a run in another terminal, until it ends. Ctrl-C ends the watching only.

    For example: `sweep watch runs/shapes`.
    """
    with explained_errors():
        from runner.results.live_file import read_view
        from runner.results.run_directory import open_run

        store = open_run(run_directory)
        if not store.is_in_use():
            print(f"nothing is running in {run_directory}; sweep report {run_directory} shows the results")
            return
        with _display(plain) as screen:
            try:
                while store.is_in_use():
                    if view := read_view(run_directory):
                        screen.update(view)
                    time.sleep(WATCH_PERIOD_S)
            except KeyboardInterrupt:
                return
        print(f"the run has ended; sweep report {run_directory} shows the results")


def _interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: whole files, default clocks. `nohup` keeps its meaning."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _say_what_is_kept(outcome: "RunOutcome", directory: Path) -> None:
    """Say after an interruption what is kept, how to resume it and whether the clocks are back."""
    print(f"interrupted: {outcome.num_ok:,} of {outcome.num_in_sweep:,} trials are finished and kept in {directory}")
    print(f"to resume: {' '.join(['sweep', *(word for word in sys.argv[1:] if word != '--fresh')])}")
    print(f"to see the results: sweep report {directory}")
    if outcome.not_restored:
        gpus = ", ".join(outcome.not_restored)
        print(f"clocks are NOT back on GPU {gpus}: sweep doctor --reset-clocks puts them back")
    else:
        print("clocks and power limits are as they were before the run")


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
