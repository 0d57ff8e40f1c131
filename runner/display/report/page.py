"""The report as one page that needs no network.

A `Document` and its plots enter; HTML leaves. The page's look is in template/. Lists that are long are folded.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from runner.display.plots.plot import ON_DARK, ON_LIGHT, Plot
from runner.display.plots.vega import load_vega
from runner.display.report.document import Document, Figures, Section, select
from runner.display.text.figures import FigureKind

Plots = Mapping[FigureKind, Sequence[Plot]]
"""The plots of a run, by the place that the document has for them."""

MAX_FINDINGS = 8
"""Sentences of one kind; more are folded, so that the plots are not far below."""
MAX_DETAILS = 60
"""Blocks that are written out; readers do not get through more."""

_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=%|±|MHz\b|W\b|J\b)|(?<=±) (?=\d)")


def render_page(document: Document, plots: Plots) -> str:
    """Return report.html.

    Args:
        document: what the page says.
        plots: a section that has nothing but plots is left out where there is none.
    """
    folder = Path(__file__).parent / "template"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, finalize=_unbroken)
    figures = {
        kind: [(f"plot-{i}-{j}", plot) for j, plot in enumerate(drawn)] for i, (kind, drawn) in enumerate(plots.items())
    }
    keyed = dict(pair for pairs in figures.values() for pair in pairs)
    return environment.get_template("page.html").render(
        document=document,
        sections=[shown for section in document.sections if (shown := _show(section, plots)) is not None],
        figures=figures,
        max_findings=MAX_FINDINGS,
        max_details=MAX_DETAILS,
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        js=Markup((folder / "page.js").read_text(encoding="utf-8")),
        vega=Markup(load_vega() if keyed else ""),
        colours=_embed({"light": ON_LIGHT, "dark": ON_DARK}),
        plots=_embed({key: plot.for_page() for key, plot in keyed.items()}),
    )


def _show(section: Section, plots: Plots) -> Section | None:
    """Return what the page shows of a section, without places that have no plot; None where nothing is left."""
    parts = tuple(
        part for part in select(section.parts, "page") if not isinstance(part, Figures) or plots.get(part.figure_kind)
    )
    return replace(section, parts=parts) if parts else None


def _unbroken(value: Any) -> Any:
    """Keep numbers and their units on one line, wherever the template writes text."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _NUMBER_AND_UNIT.sub("\N{NO-BREAK SPACE}", value)


def _embed(value: Mapping[str, Any]) -> Markup:
    """Return JSON that cannot end the element that it stands in."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))
