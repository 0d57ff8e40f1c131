"""`sweep report`: what was found."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.errors import explained_errors, quiet_broken_pipe
from runner.cli.options import (
    CarbonOption,
    JsonOption,
    PictureFormat,
    PriceOption,
    PueOption,
    RunDirectory,
    TableMarkup,
)

if TYPE_CHECKING:
    from runner.analysis.advice.limits import Limits
    from runner.analysis.advice.tariff import Tariff


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
    price: PriceOption = None,
    carbon: CarbonOption = None,
    pue: PueOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write every table as CSV into RUN/tables.")] = False,
    tables: Annotated[
        TableMarkup | None, typer.Option("--tables", help="Write the report's tables for a paper into RUN/tables.")
    ] = None,
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

    Writes RUN/report.html too, a page of its own that needs no network; with --json it prints alone and writes no page.
    Limits are those that the recommended operating points must keep. For example:
    `sweep report runs/demo --max-slowdown 5% --price "0.25 EUR/kWh" --carbon "380 g/kWh" --pue 1.2`.
    """
    with explained_errors(), quiet_broken_pipe():
        from runner.analysis.advice.limits import parse_limits
        from runner.analysis.advice.tariff import parse_tariff

        limits = parse_limits(
            max_slowdown=max_slowdown, min_quality_change=min_quality_change, max_ttft=max_ttft, max_tpot=max_tpot
        )
        tariff = parse_tariff(price=price, carbon=carbon, pue=pue)
        if entities:
            _add_entities(run_directory, entities)
        print_report(run_directory, limits, tariff, as_json=as_json, csv=csv, tables=tables, plots=plots)


def print_report(
    directory: Path,
    limits: "Limits | None" = None,
    tariff: "Tariff | None" = None,
    *,
    as_json: bool = False,
    csv: bool = False,
    tables: TableMarkup | None = None,
    plots: PictureFormat | None = None,
) -> None:
    """Print the tables and write the page, or print JSON alone; what else was asked for goes into the run directory."""
    from runner.analysis.advice.limits import NO_LIMITS
    from runner.analysis.advice.tariff import NO_TARIFF
    from runner.display.paper_tables import write_paper_tables
    from runner.display.report.build import build_document
    from runner.display.report.exports import format_json, write_page, write_tables
    from runner.display.report.reading import read_study
    from runner.results.run_directory import open_run

    store = open_run(directory)
    manifest = store.read_manifest() or {}
    study = read_study(store, limits or NO_LIMITS, tariff or NO_TARIFF)
    document = build_document(study, manifest)
    written = write_tables(store, study) if csv else []
    if tables:
        files = write_paper_tables(store, document, tables.value)
        written.append(f"{len(files)} tables for a paper ({', '.join(files[:2])}{' ...' if len(files) > 2 else ''})")
    if plots:
        from runner.display.plots.pictures import write_pictures

        written += write_pictures(store, study, plots.value)
    if as_json:
        print(format_json(study, manifest))
        return
    from rich.console import Console

    from runner.display.report.terminal import render_report

    console = Console()
    console.print(render_report(document, console.width))
    written.insert(0, write_page(store, study, document))
    console.print(
        f"Run directory: {directory}, with {', '.join(written)}", highlight=False, style="dim", soft_wrap=True
    )


def _add_entities(directory: Path, pipeline: str) -> None:
    from runner.display.report.reading import add_entities
    from runner.results.run_directory import open_run
    from runner.tasks.features.entities import NoPipelineError

    try:
        add_entities(open_run(directory), pipeline)
    except NoPipelineError as error:
        print(f"sweep: warning: named entities are not counted: {error}", file=sys.stderr)
