"""The report on the terminal.

A `Document` enters; a rich renderable leaves. Columns that do not fit are left out and named at the end.
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from runner.display.report.document import (
    Definitions,
    Details,
    Document,
    Emphasis,
    Findings,
    Mark,
    Part,
    Section,
    Sentences,
    Table,
    select,
)
from runner.display.report.terminal_table import draw_table, fit_columns

_STYLES: dict[Emphasis, str] = {"plain": "", "key": "", "quiet": "dim", "warning": "yellow", "notice": "bold yellow"}
_ROW_STYLES: dict[Mark, str] = {"": "", "good": "bold green", "doubt": "yellow"}


def render_report(document: Document, width: int) -> Group:
    """Draw a report for a terminal `width` cells wide, 40 at least."""
    return Group(*_Renderer(width).draw(document))


class _Renderer:
    """Draws one document, and keeps in mind which columns were left out."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._left_out: dict[str, None] = {}

    def draw(self, document: Document) -> Iterator[RenderableType]:
        yield Text.assemble((document.title, "bold"), f": {document.summary}")
        for part in document.overview:
            yield from self._draw_part(part)
        for section in document.sections:
            yield from self._draw_section(section)
        if self._left_out:
            where = "A wider terminal shows them, and sweep report --csv or --json writes them."
            yield ""
            yield Text(f"Left out for lack of width: {', '.join(self._left_out)}. {where}", style="dim")

    def _draw_section(self, section: Section) -> Iterator[RenderableType]:
        if parts := tuple(select(section.parts, "terminal")):
            yield ""
            yield Rule(Text(" · ".join(filter(None, (section.title, section.notice)))), align="left", style="dim")
            yield from self._draw_parts(parts)

    def _draw_parts(self, parts: tuple[Part, ...]) -> Iterator[RenderableType]:
        for i, part in enumerate(parts):
            if isinstance(part, Details) or (isinstance(part, Table) and i > 0):
                yield ""
            yield from self._draw_part(part)

    def _draw_part(self, part: Part) -> Iterator[RenderableType]:
        match part:
            case Sentences():
                yield from (Text(text, style=_STYLES[part.emphasis]) for text in part.texts)
            case Findings():
                yield from map(Text, part.texts)
            case Table():
                yield self._draw_table(part)
            case Definitions():
                yield _draw_definitions(part)
            case Details():
                title = Text(part.title, style="bold").append(f" · {part.place}" if part.place else "", style="dim")
                yield title.append(f" · {part.notice}" if part.notice else "", style="yellow")
                yield from self._draw_parts(tuple(select(part.parts, "terminal")))

    def _draw_table(self, table: Table) -> Grid:
        columns, dropped = fit_columns(table.columns, self._width)
        if not table.is_overview:
            self._left_out |= dict.fromkeys(dropped)
        return draw_table(columns, [_ROW_STYLES[mark] for mark in table.row_marks])


def _draw_definitions(definitions: Definitions) -> Grid:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for term, meaning in definitions.entries:
        grid.add_row(term, Text(meaning))
    return grid
