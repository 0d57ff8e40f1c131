"""`sweep doctor` and `sweep tasks`: what this machine can do, and what there is to be run."""

import json
import os
from typing import Annotated

import typer

from runner.cli.errors import EXIT_WRONG_MACHINE, explained_errors, quiet_broken_pipe
from runner.cli.options import GpuOption, JsonOption


def doctor(
    gpu: GpuOption = "auto",
    reset_clocks: Annotated[
        bool, typer.Option("--reset-clocks", help="Put back what dead runs left set on these GPUs.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print what was found of each power sensor.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether this machine can measure and set clocks, and say what is missing.

    For example: `sweep doctor --gpu all`. Exit code 3: it cannot measure, or a GPU could not be put back.
    """
    with explained_errors():
        from rich.console import Console

        from runner.display.doctor import render_checks, show_looks
        from runner.hardware.doctor import examine, reset_leftovers

        console = Console()
        if reset_clocks:
            for line in reset_leftovers(gpu, os.environ.get("CUDA_VISIBLE_DEVICES")):
                console.print(line, highlight=False)
            return
        with show_looks(console, is_quiet=as_json) as on_look:
            checks = examine(gpu, os.environ.get("CUDA_VISIBLE_DEVICES"), on_look=on_look)
        if as_json:
            from dataclasses import asdict

            print(json.dumps([asdict(check) for check in checks], indent=1))
        else:
            console.print(render_checks(checks, verbose=verbose))
    if any(check.level == "error" for check in checks):
        raise typer.Exit(EXIT_WRONG_MACHINE)


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
    with explained_errors(), quiet_broken_pipe():
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
        from runner.display.tasks import print_tasks

        print_tasks(shown, num_left_out=len(found) - len(shown))
