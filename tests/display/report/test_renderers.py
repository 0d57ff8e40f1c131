"""Both renderers say all that the document says, but for parts that name their audience."""

from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import RenderableType

from runner.analysis.advice.limits import Limits
from runner.analysis.advice.tariff import parse_tariff
from runner.analysis.study import Study, study_trials
from runner.display.report import page as page_module
from runner.display.report.build import build_document
from runner.display.report.document import Definitions, Details, Document, Figures, Part, Sentences, Table
from runner.display.report.page import render_page
from runner.display.report.terminal import render_report
from tests.analysis.trial_rows import frame, trial
from tests.display.studies import MANIFEST, make_study
from tests.display.trials import TRIALS

WIDTH = 500
"""Cells: every column fits, and no sentence is broken."""


def alone_at_the_default_clock() -> Study:
    phases = {"phase_method": "static_batches", "joules_per_prefill_token": 0.0123, "joules_per_decode_token": 0.456}
    return study_trials(
        frame(*(trial(None, 1.0, task=task, block_id=task, gpu_uuids=[f"GPU-{task}-0"], **phases) for task in "ab"))
    )


IMPORTED = MANIFEST | {"imported": {"file": "grid.csv", "stands_for_default": ["SM 3090 MHz"]}}
REPORTS: dict[str, tuple[Callable[[], Study], dict[str, Any]]] = {
    "everything": (make_study, MANIFEST),
    "limits": (lambda: make_study(Limits(max_slowdown=0.2), simulated=False), IMPORTED),
    "problems": (lambda: study_trials(TRIALS), MANIFEST),
    "default clock": (alone_at_the_default_clock, MANIFEST),
    "money": (lambda: study_trials(TRIALS, tariff=parse_tariff(price="0.25 EUR/kWh", pue=1.2)), MANIFEST),
    "nothing": (lambda: study_trials(frame()), MANIFEST),
}


class PageText(HTMLParser):
    """What a browser shows of a page, an element a line."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._is_hidden = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_hidden = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._is_hidden and data.strip():
            self.lines.append(flat(data))


@pytest.fixture(params=REPORTS)
def document(request: pytest.FixtureRequest) -> Document:
    make, manifest = REPORTS[request.param]
    return build_document(make(), manifest)


def flat(text: str) -> str:
    return " ".join(text.split())


def parts_of(document: Document) -> Iterator[Part]:
    """Every part, those inside others too."""
    for part in (*document.overview, *(part for section in document.sections for part in section.parts)):
        yield part
        if isinstance(part, Details):
            yield from part.parts


def texts_of(part: Part) -> Iterable[str]:
    match part:
        case Table():
            return [column.header for column in part.columns] + [cell for row in part.rows() for cell in row]
        case Definitions():
            return [text for entry in part.entries for text in entry]
        case Details():
            return [part.title, part.place, part.notice]
        case Figures():
            return []
        case _:
            return part.texts


def assert_said(document: Document, shown: str, audience: str) -> None:
    """Each text of an audience is there; each sentence of the other's is not."""
    for part in parts_of(document):
        is_shown = part.audience in ("all", audience)
        for text in texts_of(part):
            assert not is_shown or flat(text) in shown, text
            if isinstance(part, Sentences) and not is_shown:
                assert flat(text) not in shown, text


def test_the_terminal_says_all_that_is_meant_for_it(
    document: Document, render: Callable[[RenderableType, int, int], str]
) -> None:
    shown = flat(render(render_report(document, WIDTH), WIDTH, 1000))
    assert f"{document.title}: {document.summary}" in shown
    assert_said(document, shown, "terminal")
    assert "Left out" not in shown


def test_the_page_says_all_that_is_meant_for_it(document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "load_vega", lambda: "")
    shown = "\n".join(PageText(render_page(document, {})).lines)
    assert document.summary in shown
    assert_said(document, shown, "page")


def test_only_the_page_has_figures_recommendations_and_method() -> None:
    document = build_document(make_study(), MANIFEST)
    apart = [part for part in parts_of(document) if part.audience != "all"]
    assert {part.audience for part in apart} == {"page"}
    assert {part.kind for part in apart if not isinstance(part, Figures)} == {"table", "sentences", "definitions"}
    [table] = [part for part in apart if isinstance(part, Table)]
    assert table.layout == "cards"
