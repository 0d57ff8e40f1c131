"""Tables on a terminal: numbers are never cut; where there is no room, whole columns give way.

`Column`s enter; a rich table leaves. Next: `terminal.py`.
"""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from runner.display.report.document import Column

GAP = 2
"""Cells between two columns."""


def fit_columns(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Leave out the columns of highest rank until the rest fits; return those that stay and the names of the others."""
    kept = list(columns)
    dropped = []
    while sum(_width(column) + GAP for column in kept) - GAP > width:
        last = max(kept, key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
        dropped.append(last.name)
    return kept, dropped


def draw_table(columns: Sequence[Column], styles: Sequence[str] = ()) -> Table:
    """Draw columns side by side; `styles` are those of the rows, all plain unless given."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(
            column.header,
            justify="right" if column.alignment == "right" else "left",
            no_wrap=True,
            width=_width(column),
        )
    for i, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*map(Text, cells), style=styles[i] if styles else "")
    return table


def _width(column: Column) -> int:
    return max(cell_len(text) for text in (column.header, *column.cells))
