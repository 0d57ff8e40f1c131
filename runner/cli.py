"""The command `sweep`: the only place where the parts are put together.

Nothing heavy is imported until a command needs it, so that `sweep --help` answers at once.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from runner.analysis.limits import Limits
    from runner.display.dashboard import Dashboard
    from runner.display.plain import PlainLines
    from runner.execution.cluster import Seat
    from runner.spec.sweep import SweepSpec

EXIT_FAILED_TRIALS = 1
EXIT_WRONG_INPUT = 2
EXIT_WRONG_MACHINE = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="What does a token cost in joules, seconds and quality, at every clock the GPU can run?",
    epilog="Start with: sweep run sweeps/demo.toml   (no GPU needed; then: sweep report runs/demo)",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its help imports rich and markdown, which takes longer than all the rest
    pretty_exceptions_enable=False,
)


class ClocksMode(StrEnum):
    """Whether clocks may be set."""

    APPLY = "apply"
    READ_ONLY = "read-only"


class EngineKind(StrEnum):
    """What generates."""

    VLLM = "vllm"
    SIMULATED = "simulated"


class PictureFormat(StrEnum):
    """How plots are written."""

    PNG = "png"
    SVG = "svg"


SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file, e.g. sweeps/demo.toml.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, e.g. runs/demo.")]
GpuOption = Annotated[
    str, typer.Option("--gpu", metavar="GPUS", help="all, auto, indices or UUIDs (0,2), sim, or sim:h200x4.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Run directory; runs/<name of the sweep> unless given.")
]
ClocksOption = Annotated[
    ClocksMode | None,
    typer.Option("--clocks", help="read-only sets nothing and measures at the board's own clocks."),
]
EngineOption = Annotated[
    EngineKind,
    typer.Option("--engine", help="simulated: the board model alone, in virtual time; no tokens and no quality."),
]
AddressOption = Annotated[str | None, typer.Option("--address", metavar="RAY", help="A Ray cluster to run on.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]


@app.command()
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
    """Run a sweep. Running it again goes on where it stopped; finished trials are not repeated."""
    with _explained_errors():
        sweep = _load(file)
        read_only = _is_read_only(clocks, sweep)
        from dataclasses import replace

        from runner.execution.cluster import find_seats, ray_session
        from runner.execution.feasibility import require_settable
        from runner.execution.manifest import RunOptions, close_finished_run, keep_commits
        from runner.execution.model_access import check_access, require_access
        from runner.results.store import RunStore
        from runner.spec.trial import expand_trials

        _interrupt_on_signals()
        joins_cluster = bool(_cluster_address(address))
        local_seats = [] if joins_cluster else find_seats(gpu, None)
        _require_possible(local_seats, engine)
        directory = out or Path("runs") / sweep.name
        blocks = expand_trials(sweep, read_only=read_only)
        require_settable(blocks, local_seats)
        command = " ".join(["sweep", *sys.argv[1:]])
        options = RunOptions(engine=engine.value, read_only=read_only, limit=limit, command=command)
        with RunStore(directory) as store:
            if not fresh and close_finished_run(store, sweep, blocks, options=options):
                print("nothing left to run: every trial is finished (--fresh runs them again)")
                _print_report(directory)
                return
            if engine is EngineKind.VLLM:
                commits = require_access(check_access(sweep.model))
                options = replace(
                    options, commits=keep_commits(sweep, commits, None if fresh else store.read_manifest())
                )
            with _display(plain) as screen, ray_session(address):
                from runner.execution.driver import run_sweep

                seats = find_seats(gpu, address) if joins_cluster else local_seats
                _require_possible(seats, engine)
                require_settable(blocks, seats)
                if fresh:
                    store.clear()
                outcome = run_sweep(sweep, blocks, seats, store=store, options=options, show=screen.update)
            if outcome.interrupted:
                raise typer.Exit(EXIT_INTERRUPTED)
            _print_report(directory)
    if outcome.num_failed or outcome.num_left:
        raise typer.Exit(EXIT_FAILED_TRIALS)


@app.command()
def plan(
    file: SweepFile,
    gpu: GpuOption = "auto",
    out: OutOption = None,
    clocks: ClocksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would run, in which order, for how long and at what energy. Nothing is started or set."""
    with _explained_errors():
        sweep = _load(file)
        read_only = _is_read_only(clocks, sweep)
        from dataclasses import asdict

        from runner.execution.cluster import find_seats
        from runner.execution.feasibility import require_settable
        from runner.execution.model_access import check_access, require_access
        from runner.execution.plan import plan_sweep
        from runner.results.store import RunStore
        from runner.spec.trial import expand_trials

        seats = find_seats(gpu, None)
        blocks = expand_trials(sweep, read_only=read_only)
        models = check_access(sweep.model)
        finished = RunStore(out or Path("runs") / sweep.name).finished_trial_ids()
        planned = plan_sweep(sweep, blocks, [seat.info for seat in seats], read_only=read_only, finished=finished)
        if as_json:
            print(json.dumps(asdict(planned), indent=1))
        else:
            from rich.console import Console

            from runner.display.plan import render_plan

            Console().print(render_plan(planned))
        for model in models:
            if model.problem == "unreachable":
                print(f"sweep: warning: {model.message}", file=sys.stderr)
        require_settable(blocks, seats)
        require_access([model for model in models if model.problem != "unreachable"])


@app.command()
def report(
    run_directory: RunDirectory,
    max_slowdown: Annotated[
        str | None, typer.Option("--max-slowdown", metavar="5%", help="How much longer the same work may take.")
    ] = None,
    min_quality_change: Annotated[
        str | None,
        typer.Option("--min-quality-change", metavar="-0.5%", help="By how much the score may change, relative to it."),
    ] = None,
    max_ttft: Annotated[
        str | None, typer.Option("--max-ttft", metavar="0.5s", help="95th percentile of the time to first token.")
    ] = None,
    max_tpot: Annotated[
        str | None, typer.Option("--max-tpot", metavar="50ms", help="95th percentile of the time per output token.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write every table as CSV into RUN/tables.")] = False,
    plots: Annotated[
        PictureFormat | None, typer.Option("--plots", help="Write every plot as a picture into RUN/plots.")
    ] = None,
    entities: Annotated[
        str | None,
        typer.Option("--entities", metavar="PIPELINE", help="Count prompts' named entities by this spaCy pipeline."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what to do: which clock to set for each model and task, and what it saves; then show what was found.

    Writes RUN/report.html too, a page of its own that needs no network. Limits are those that the recommended operating
    points must keep. For example: `sweep report runs/demo --max-slowdown 5% --plots svg`.
    """
    with _explained_errors():
        from runner.analysis.limits import parse_limits

        limits = parse_limits(
            max_slowdown=max_slowdown, min_quality_change=min_quality_change, max_ttft=max_ttft, max_tpot=max_tpot
        )
        if entities:
            _add_entities(run_directory, entities)
        _print_report(run_directory, limits, as_json=as_json, csv=csv, plots=plots)


@app.command(name="import")
def import_table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file in the form of docs/recommendation.md.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory; runs/<name of the file> unless given.")
    ] = None,
) -> None:
    """Read a published grid of clocks, so that it is analysed as our own runs are."""
    with _explained_errors():
        from runner.execution.importing import import_published
        from runner.results.store import RunStore

        directory = out or Path("runs") / file.stem
        with RunStore(directory) as store:
            import_published(file, store, " ".join(["sweep", *sys.argv[1:]]))
        _print_report(directory)


@app.command()
def doctor(
    gpu: GpuOption = "auto",
    reset_clocks: Annotated[
        bool, typer.Option("--reset-clocks", help="Clear a lock that a disaster left behind on these boards.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Can this machine measure, can it set clocks, and what is missing?"""
    with _explained_errors():
        from rich.console import Console

        from runner.display.doctor import render_checks
        from runner.hardware.doctor import examine, reset_leftovers

        console = Console()
        if reset_clocks:
            for line in reset_leftovers(gpu, os.environ.get("CUDA_VISIBLE_DEVICES")):
                console.print(line, highlight=False)
            return
        checks = examine(gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
        if as_json:
            from dataclasses import asdict

            print(json.dumps([asdict(check) for check in checks], indent=1))
        else:
            console.print(render_checks(checks))
    if any(check.level == "error" for check in checks):
        raise typer.Exit(EXIT_WRONG_MACHINE)


@app.command()
def tasks(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="Only those whose name or subject holds it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of lm-evaluation-harness's too, some thousands.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the tasks that a sweep file may name, and what each asks of a model.

    Our own need no network; the study's and lm-evaluation-harness's read public data sets. For example:
    `sweep tasks`, `sweep tasks commonsense`, `sweep tasks mmlu`, `sweep tasks --all --json`.
    """
    with _explained_errors():
        from runner.tasks.listing import list_tasks
        from runner.tasks.task import TaskError

        found = list_tasks(word)
        if not found:
            raise TaskError(f"no task's name or subject holds {word!r}; `sweep tasks --all` lists every name")
        shown = found if word or every or as_json else [task for task in found if task.origin != "harness"]
        if as_json:
            from dataclasses import asdict

            print(json.dumps([asdict(task) for task in shown], indent=1))
            return
        from rich.console import Console

        from runner.display.tasks import render_tasks

        Console().print(render_tasks(shown, num_left_out=len(found) - len(shown)), highlight=False)


def main() -> None:
    """Run the command line."""
    app()


# parts that several commands share -----------------------------------------------------------------------------------


def _load(file: Path) -> "SweepSpec":
    from runner.spec.sweep import load_sweep
    from runner.tasks.loading import check_task_name

    sweep = load_sweep(file)
    for task in sweep.task:
        check_task_name(task.name)
    return sweep


def _is_read_only(clocks: ClocksMode | None, sweep: "SweepSpec") -> bool:
    from runner.hardware.read_only import resolve_clocks_mode

    return resolve_clocks_mode(clocks.value if clocks else None, sweep.clocks) == "read-only"


def _cluster_address(address: str | None) -> str | None:
    return address or os.environ.get("RAY_ADDRESS") or None


def _interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: whole files, default clocks. `nohup` keeps its meaning."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _require_possible(seats: "list[Seat]", engine: EngineKind) -> None:
    """Refuse at once what would fail for every trial."""
    from runner.hardware.gpu import NoGpuError

    simulated = [seat.info.simulated for seat in seats]
    if engine is EngineKind.SIMULATED and not all(simulated):
        raise ValueError("--engine simulated computes on simulated boards only: add --gpu sim")
    if any(simulated) and not all(simulated):
        raise NoGpuError("real and simulated boards cannot be mixed in one run")


@contextmanager
def _display(plain: bool) -> "Iterator[Dashboard | PlainLines]":
    """Show the dashboard on a terminal, lines of text everywhere else."""
    if plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        from runner.display.plain import PlainLines

        with PlainLines() as lines:
            yield lines
    else:
        from runner.display.dashboard import Dashboard

        with Dashboard() as dashboard:
            yield dashboard


def _add_entities(directory: Path, pipeline: str) -> None:
    from runner.display.run_report import add_entities
    from runner.results.store import open_run
    from runner.tasks.entities import NoPipelineError

    try:
        add_entities(open_run(directory), pipeline)
    except NoPipelineError as error:
        print(f"sweep: warning: named entities are not counted: {error}", file=sys.stderr)


def _print_report(
    directory: Path,
    limits: "Limits | None" = None,
    *,
    as_json: bool = False,
    csv: bool = False,
    plots: PictureFormat | None = None,
) -> None:
    """Print the tables, then write the page and what else was asked for into the run directory."""
    from runner.analysis.limits import NO_LIMITS
    from runner.display.run_report import format_json, read_study, write_tables
    from runner.results.store import open_run

    store = open_run(directory)
    manifest = store.read_manifest() or {}
    study = read_study(store, limits or NO_LIMITS)
    written = write_tables(store, study) if csv else []
    if plots:
        from runner.display.run_plots import write_pictures

        written += write_pictures(store, study, plots.value)
    if as_json:
        print(format_json(study, manifest))
        return
    from rich.console import Console

    from runner.display.report import render_report

    console = Console()
    console.print(render_report(study, manifest, console.width))
    from runner.display.run_plots import write_page

    written.insert(0, write_page(store, study, manifest))
    console.print(
        f"Run directory: {directory}, with {', '.join(written)}", highlight=False, style="dim", soft_wrap=True
    )


@contextmanager
def _explained_errors() -> Iterator[None]:
    """Turn errors that a person can do something about into one message and the contract's exit code."""
    from runner.execution.cluster import ClusterError
    from runner.execution.model_access import ModelAccessError
    from runner.hardware.gpu import GpuError
    from runner.results.store import RunDirectoryError
    from runner.spec.sweep import SweepFileError
    from runner.tasks.task import TaskError

    try:
        yield
    except (SweepFileError, TaskError, RunDirectoryError) as error:
        _fail(str(error), EXIT_WRONG_INPUT)
    except (GpuError, ClusterError, ModelAccessError, OSError) as error:
        _fail(str(error), EXIT_WRONG_MACHINE)
    except ValueError as error:
        _fail(str(error), EXIT_WRONG_INPUT)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"sweep: {message}", file=sys.stderr)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    main()
