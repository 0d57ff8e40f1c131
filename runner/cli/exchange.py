"""`sweep import` and `sweep export`: results of other tools, and results for them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.errors import explained_errors
from runner.cli.options import RunDirectory
from runner.cli.report import print_report


def import_table(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A CSV file in the form of docs/exchange.md, or vLLM's results (JSON)."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run directory; runs/<name of the file> unless given.")
    ] = None,
) -> None:
    """Read results of others, so that they are analysed as our own runs are.

    A published grid of clocks is a CSV file, a line an operating point, with the columns sm_clock_mhz or mem_clock_mhz,
    output_tokens_per_s, and mean_power_w or joules_per_output_token. The results of vllm bench serve are a JSON file,
    those of vllm bench sweep its folder; they hold no energy. For example: `sweep import grid.csv`.
    """
    with explained_errors():
        from runner.execution.driver.importing import import_published
        from runner.results.run_directory import RunStore

        directory = out or Path("runs") / file.stem
        with RunStore(directory) as store:
            import_published(file, store, " ".join(["sweep", *sys.argv[1:]]))
        print_report(directory)


def export(
    run_directory: RunDirectory,
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="vllm-bench, mlenergy or inferencex (docs/exchange.md).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="RUN/exports/FORMAT unless given; new or empty.")
    ] = None,
) -> None:
    """Write a run's trials in the format of another tool, for that tool's readers.

    vllm-bench: results of vllm bench serve, in the folders of vllm bench sweep. mlenergy: the ML.ENERGY benchmark's
    results.json files. inferencex: InferenceX's aggregates with power. What a format asks for and the run does not know
    is null or left out, and a note says so. For example: `sweep export runs/demo --format vllm-bench`.
    """
    with explained_errors():
        from runner.results.exchange.export import export_run
        from runner.results.run_directory import open_run

        written = export_run(open_run(run_directory), format_name, out)
        for note in written.notes:
            print(f"sweep: note: {note}", file=sys.stderr)
        trials = f"{written.num_trials:,} trial{'' if written.num_trials == 1 else 's'}"
        print(f"{trials} in {len(written.files):,} files written to {written.folder}")
