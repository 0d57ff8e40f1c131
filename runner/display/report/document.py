"""What a report says, apart from how it looks: sections of sentences, tables, figures and lists.

`build.py` makes a `Document` once from a `Study`. `terminal.py` and `page.py` render it. A part that only one of them
shows names its audience.
"""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

from runner.display.text.figures import FigureKind

Audience = Literal["all", "terminal", "page"]
Emphasis = Literal["plain", "key", "quiet", "warning", "notice"]
"""key: what the reader should do. notice: a warning about the whole report."""
Alignment = Literal["right", "left", "spaced"]
"""spaced: to the right, with blanks in the cells that align them where all letters are equally wide."""
Role = Literal["value", "name", "conclusion"]
"""name: what the row is about. conclusion: what the mark of the row speaks of."""
Mark = Literal["", "good", "doubt"]
Layout = Literal["numbers", "cards"]
"""cards: the cells hold short sentences, so that a narrow page shows each row as a card."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, with its cells."""

    header: str
    name: str
    """What a note on left-out columns calls it."""
    cells: tuple[str, ...]
    rank: int
    """Order in which columns give way where there is no room, highest first; 0 stays."""
    _: KW_ONLY
    alignment: Alignment = "right"
    role: Role = "value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentences:
    """Sentences, each on a line of its own."""

    kind: ClassVar[str] = "sentences"
    texts: tuple[str, ...]
    emphasis: Emphasis = "plain"
    audience: Audience = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """Sentences of one kind, of which there may be many; a renderer may fold them."""

    kind: ClassVar[str] = "findings"
    texts: tuple[str, ...]
    audience: Audience = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; its columns have equally many cells."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    row_marks: tuple[Mark, ...] = ()
    """One for each row, or none at all."""
    layout: Layout = "numbers"
    is_overview: bool = False
    """Whether other tables of the report have the same numbers, so that no note names columns left out here."""
    audience: Audience = "all"

    def rows(self) -> list[tuple[str, ...]]:
        """Return [num_rows] tuples of [num_columns] cells."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def mark_of(self, row: int) -> Mark:
        """Return the mark of a row."""
        return self.row_marks[row] if self.row_marks else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The place of the figures of one kind, which a renderer is given."""

    kind: ClassVar[str] = "figures"
    figure_kind: FigureKind
    audience: Audience = "page"


@dataclass(frozen=True, kw_only=True, slots=True)
class Definitions:
    """Pairs of a short term and what is said of it."""

    kind: ClassVar[str] = "definitions"
    entries: tuple[tuple[str, str], ...]
    audience: Audience = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What is said of one block in full, under its own title; a renderer may fold it."""

    kind: ClassVar[str] = "details"
    title: str
    place: str
    """The GPUs that it was measured on, where the run has several; else empty."""
    notice: str
    """SIMULATED_NOTICE, or empty."""
    parts: tuple["Sentences | Table", ...]
    audience: Audience = "all"


Part = Sentences | Findings | Table | Figures | Definitions | Details


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Parts under one title."""

    title: str
    parts: tuple[Part, ...]
    notice: str = ""
    """SIMULATED_NOTICE where the section has numbers of a simulated GPU, or empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A whole report. Its first section says what to do."""

    title: str
    """The name of the run's sweep."""
    notice: str
    """SIMULATED_NOTICE, or empty."""
    summary: str
    """How many trials there are; follows the title."""
    overview: tuple[Sentences, ...]
    sections: tuple[Section, ...]


def select(parts: Iterable[Part], audience: Literal["terminal", "page"]) -> Iterator[Part]:
    """Yield the parts that a renderer shows."""
    return (part for part in parts if part.audience in ("all", audience))
