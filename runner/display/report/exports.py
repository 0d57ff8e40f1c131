"""What a report leaves for other programs: JSON, tables as CSV, and the page.

A `Study` or a `Document` enters; text or files in the run directory leave.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from runner.analysis.study import Study
from runner.display.report.document import Document
from runner.results.atomic_files import write_atomically
from runner.results.run_directory import RunStore

TABLES = "tables"
"""The folder of a run directory that holds its tables as CSV."""
PAGE = "report.html"


def format_json(study: Study, manifest: Mapping[str, Any]) -> str:
    """Return everything as JSON: the names of `Study.tables`, each a list of rows, the limits and the tariff."""
    summary: dict[str, Any] = {"name": manifest.get("name"), "simulated": manifest.get("simulated")}
    summary |= {"imported": manifest.get("imported"), "limits": asdict(study.limits), "tariff": asdict(study.tariff)}
    return json.dumps(summary | {name: table.to_dicts() for name, table in study.tables().items()})


def write_tables(store: RunStore, study: Study) -> list[str]:
    """Write every table that has rows into the run directory as CSV; returns the files' names.

    Lists are joined by blanks. Each table says whether a GPU was simulated.
    """
    written = []
    is_simulated = pl.lit(bool(study.trials["simulated"].any())).alias("simulated")
    for name, kept in study.tables().items():
        table = kept if "simulated" in kept.columns else kept.with_columns(is_simulated)
        lists = [column for column, dtype in table.schema.items() if dtype.base_type() is pl.List]
        flat = table.with_columns(pl.col(column).cast(pl.List(pl.String)).list.join(" ") for column in lists)
        path = store.directory / TABLES / f"{name}.csv"
        if table.height:
            write_atomically(path, flat.write_csv().encode())
            written.append(f"{TABLES}/{path.name}")
        else:
            path.unlink(missing_ok=True)  # of an earlier report
    return written


def write_page(store: RunStore, study: Study, document: Document) -> str:
    """Write report.html with every plot into the run directory; returns the file's name."""
    # Both import altair, which takes a second; tables do without.
    from runner.display.plots.all_plots import make_plots
    from runner.display.report.page import render_page

    write_atomically(store.directory / PAGE, render_page(document, make_plots(study, store)).encode())
    return PAGE
