"""The report as one page that needs no network: what to do first, then the plots, then all numbers and the method.

A `Study`, its manifest and its plots enter, HTML leaves. The page's look is in page/.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from runner.analysis.study import Study
from runner.analysis.window.verdicts import VERDICTS
from runner.display.live.dashboard import SIMULATED_MEANING, SIMULATED_NOTICE
from runner.display.plots.plot import ON_DARK, ON_LIGHT, Plot, short_point
from runner.display.plots.vega import load_vega
from runner.display.report.columns import Column, build_columns, default_columns, default_phase_columns, phase_columns
from runner.display.report.terminal import (
    describe_counts,
    describe_gpus,
    describe_import,
    name_gpus,
    name_of_gpus,
    name_run,
    tabled_blocks,
)
from runner.display.text.advice import (
    ROUTING_MEANING,
    describe_advice,
    describe_concurrency,
    describe_evidence,
    describe_options,
    describe_outputs,
    describe_route,
    is_default_only,
)
from runner.display.text.findings import (
    ON_EQUAL_SAMPLES,
    describe_block,
    describe_common_quality,
    describe_models,
    describe_quality,
    name_block,
    short_names,
)
from runner.display.text.input_costs import correlation_columns, describe_correlations
from runner.display.text.notes import (
    choose_phased,
    describe_defaults,
    describe_gaps,
    describe_marks,
    describe_phases,
    warn_of_guessing,
)
from runner.display.text.quantities import UNKNOWN, format_change, format_change_interval

Sections = Mapping[str, Sequence[Plot]]
"""Titles, and the plots below them."""

_NAMING, _MARKED = ("task", "model"), ("set", "energy", "evidence")
"""Columns of the recommendations: what a row is about, and what its conclusion colours."""
MAX_SENTENCES = 8
"""Of a kind; more are folded, so that the plots are not far below."""
MAX_BLOCKS = 60
"""Tables that are written out; a page with more is not read."""

_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=%|±|MHz\b|W\b|J\b)|(?<=±) (?=\d)")

_RECOMMENDATION_NOTE = (
    "Against the default clock; ± 95 %, allowing for the choice among all points that were measured. "
    "Energy-delay: where joules per request times latency is least."
)


def render_page(study: Study, manifest: Mapping[str, Any], sections: Sections) -> str:
    """Return report.html.

    Args:
        study: what the run says.
        manifest: manifest.json.
        sections: those without a plot are left out.
    """
    folder = Path(__file__).parent / "template"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, finalize=_unbroken)
    blocks, gpus = tabled_blocks(study), name_gpus(study)
    defaults = study.points.filter("is_default").to_dicts()
    keyed = {f"plot-{i}-{j}": plot for i, plots in enumerate(sections.values()) for j, plot in enumerate(plots)}
    keys = iter(keyed)
    return environment.get_template("page.html").render(
        title=name_run(manifest),
        simulated=SIMULATED_NOTICE if study.trials["simulated"].any() else "",
        overview=[describe_counts(study.trials), *(describe_gpus(study.trials) if study.trials.height else [])],
        notices=list(_notices(study, manifest)),
        advice=describe_advice(study) if study.trials.height else ["No trial has finished yet."],
        recommendations=_recommendations(study),
        sentences=list(_sentences(study)),
        sections=[
            {"title": title, "plots": [_place(plot, next(keys)) for plot in plots]}
            for title, plots in sections.items()
            if plots
        ],
        defaults=_defaults(defaults, gpus, is_alone=is_default_only(study)) if len(defaults) > 1 else [],
        inputs=_tabulate(
            correlation_columns(study.correlations), notes=list(describe_correlations(study.correlations))
        ),
        blocks=[_block(points, gpus) for points in blocks[:MAX_BLOCKS]],
        num_blocks_left_out=max(len(blocks) - MAX_BLOCKS, 0),
        problems=list(_problems(study)),
        gaps=list(describe_gaps(study)),
        is_empty=study.trials.is_empty(),
        is_default_only=is_default_only(study),
        imported="imported" in manifest,
        provenance=list(_provenance(manifest)),
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        js=Markup((folder / "page.js").read_text(encoding="utf-8")),
        vega=Markup(load_vega() if keyed else ""),
        colours=_embed({"light": ON_LIGHT, "dark": ON_DARK}),
        plots=_embed({key: plot.for_page() for key, plot in keyed.items()}),
    )


def _notices(study: Study, manifest: Mapping[str, Any]) -> Iterator[str]:
    if study.trials["simulated"].any():
        yield f"{SIMULATED_NOTICE}: {SIMULATED_MEANING}."
    if "imported" in manifest:
        yield describe_import(manifest)


def _recommendations(study: Study) -> dict[str, Any]:
    """The table of what to set; a column in which nothing is known is left out."""
    energy, product = (
        study.recommendations.filter(goal=goal).to_dicts() for goal in ("energy", "energy_delay_product")
    )
    names = short_names(study.recommendations["model"].unique().to_list())
    rows = [
        _describe(of_energy, names[of_energy["model"]])
        | _describe_product(of_product)
        | {"evidence": describe_evidence(of_energy)}
        for of_energy, of_product in zip(energy, product, strict=True)
    ]
    headers = [header for header in (rows[0] if rows else ()) if any(row[header] != UNKNOWN for row in rows)]
    marks = [{"saves": "good", "unproven": "doubt"}.get(row["conclusion"], "") for row in energy]
    cells = [
        [
            {
                "label": name,
                "text": row[name],
                "mark": "name" if name in _NAMING else mark if name in _MARKED else "",
            }
            for name in headers
        ]
        for row, mark in zip(rows, marks, strict=True)
    ]
    says_something = any(row["conclusion"] != "none" for row in energy)
    notes = [_RECOMMENDATION_NOTE, describe_options(study)]
    return {"headers": headers, "rows": cells if says_something else [], "notes": [note for note in notes if note]}


def _describe(row: Mapping[str, Any], model: str) -> dict[str, str]:
    cells = {
        "task": row["task"],
        "model": model,
        "in flight": UNKNOWN if row["concurrency"] is None else str(row["concurrency"]),
    }
    if row["conclusion"] == "none":
        return cells | dict.fromkeys(("set", "energy", "time", "quality", "outputs"), UNKNOWN)
    change = format_change_interval(row["change"], row["change_low"], row["change_high"])
    is_default, has_quality = row["is_default"], row["quality_difference"] is not None
    return cells | {
        "set": short_point(row),
        "energy": "base" if is_default else f"{change} %".replace("±", "± "),
        "time": "base" if is_default else format_change(row["slowdown"]),
        "quality": describe_quality(row).removeprefix("quality ") if has_quality and not is_default else UNKNOWN,
        "outputs": describe_outputs(row) or UNKNOWN,
    }


def _describe_product(row: Mapping[str, Any]) -> dict[str, str]:
    best = UNKNOWN if row["conclusion"] == "none" else short_point(row)
    return {"energy-delay": best}


def _unbroken(value: Any) -> Any:
    """Keep numbers and their units on one line, wherever the template writes text."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _NUMBER_AND_UNIT.sub("\N{NO-BREAK SPACE}", value)


def _sentences(study: Study) -> Iterator[dict[str, Any]]:
    groups = (
        ("Requests in flight", map(describe_concurrency, study.concurrencies.to_dicts()), "Each at its best point."),
        ("Models", map(describe_models, study.models.to_dicts()), _at(study)),
        (
            "Quality of models",
            map(describe_common_quality, study.common_quality.to_dicts()),
            f"{ON_EQUAL_SAMPLES.capitalize()}.",
        ),
        ("A router between models", map(describe_route, study.routes.to_dicts()), ROUTING_MEANING),
    )
    for title, texts, note in groups:
        if sentences := list(texts):
            yield {
                "title": title,
                "sentences": sentences,
                "note": note,
                "is_long": len(sentences) > MAX_SENTENCES,
            }


def _at(study: Study) -> str:
    """Where models are compared."""
    return "At the default clock." if is_default_only(study) else "Each at its own least energy."


def _place(plot: Plot, key: str) -> dict[str, Any]:
    return {"title": plot.title, "note": plot.note, "key": key, "height": plot.chart.height, "is_broad": plot.is_broad}


def _defaults(points: Sequence[Mapping[str, Any]], gpus: Mapping[str, str], *, is_alone: bool) -> list[dict[str, Any]]:
    """All blocks side by side; where nothing else was measured, with what their own tables would have said."""
    table = _tabulate(default_columns(points, gpus), notes=list(describe_defaults(points)) if is_alone else [])
    phased = choose_phased(points) if is_alone else []
    phases = default_phase_columns(phased, gpus) if phased else []
    return [table, *([_tabulate(phases, notes=list(describe_phases(phased)))] if phases else [])]


def _block(points: Sequence[Mapping[str, Any]], gpus: Mapping[str, str]) -> dict[str, Any]:
    marks = ["good" if p["is_least_energy"] else "" if p["is_sound"] else "doubt" for p in points]
    warning, phased = warn_of_guessing(points), choose_phased(points)
    tables = [_tabulate(build_columns(points), marks, [*describe_marks(points), *([warning] if warning else [])])]
    tables += [_tabulate(phase_columns(phased), notes=list(describe_phases(phased)))] if phased else []
    notice = f" · {SIMULATED_NOTICE}" if points[0]["simulated"] else ""
    return {
        "title": f"{name_block(points[0])}{name_of_gpus(points, gpus)}{notice}",
        "tables": tables,
        "sentence": describe_block(points),
    }


def _tabulate(columns: Sequence[Column], marks: Sequence[str] = (), notes: Sequence[str] = ()) -> dict[str, Any]:
    """A table as the template draws it; `marks` are classes of its rows."""
    rows = list(zip(*(column.cells for column in columns), strict=True))
    lefts = [column.justify_left and column.name != "SM clock" for column in columns]
    return {
        "headers": [(column.header, left) for column, left in zip(columns, lefts, strict=True)],
        "rows": [
            {"mark": mark, "cells": list(zip(cells, lefts, strict=True))}
            for mark, cells in zip(marks or [""] * len(rows), rows, strict=True)
        ],
        "notes": notes,
    }


def _problems(study: Study) -> Iterator[str]:
    for code, num_trials in study.verdicts.iter_rows():
        yield f"{num_trials:,} × {code}: {VERDICTS.get(code, 'a code that this version does not know')}"
    for error, num_trials in study.failures.iter_rows():
        yield f"{num_trials:,} failed: {error or 'no reason recorded'}"


def _provenance(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for gpu in manifest.get("gpus", []):
        yield "gpu", f"{gpu['name']}, {gpu['uuid']}, driver {gpu['driver_version']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    if revision := manifest.get("git_revision"):
        yield "revision", revision
    for run in manifest.get("runs", []):
        yield "run", f"{run['start']} to {run['end'] or 'now'}: {run['command']}"


def _embed(plots: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the element that it stands in."""
    return Markup(json.dumps(plots, separators=(",", ":")).replace("<", "\\u003c"))
