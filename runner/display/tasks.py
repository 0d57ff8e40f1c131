"""The list of tasks: a name for a sweep file, what its requests do, and the metric that judges it.

`ListedTask`s enter; a table on a terminal leaves, or one line for each task in a pipe.
"""

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.tasks.listing import ListedTask

_HEADERS = ("task", "kind", "from", "metric", "about")
_MIN_WIDTHS = {"kind": 13, "from": 7, "metric": 11}
"""Cells; these columns are never broken."""
_MAX_NAME_WIDTH = 24
"""Cells; a longer name may be broken where the terminal is narrow."""
_GAP = "  "
_EXPLANATION = (
    "prefill only: log-likelihoods of given answers; no token is generated, and energy is per prompt token. "
    "generating: prefill and decoding; energy is per output token. "
    'A name goes into a sweep file as [[task]] name = "NAME".'
)


def print_tasks(tasks: Sequence[ListedTask], *, num_left_out: int) -> None:
    """Print the tasks: a table on a terminal, and lines for other programs anywhere else.

    Args:
        num_left_out: tasks of lm-evaluation-harness that are not shown; the last line says how to find them.
    """
    if sys.stdout.isatty():
        Console().print(render_tasks(tasks, num_left_out=num_left_out), highlight=False)
        return
    for line in list_tasks_by_line(tasks, num_left_out=num_left_out):
        print(line)


def render_tasks(tasks: Sequence[ListedTask], *, num_left_out: int) -> Group:
    """Draw the tasks as a table in which long names and descriptions are broken."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    longest = max((len(task.name) for task in tasks), default=0)
    table.add_column("task", overflow="fold", min_width=min(longest, _MAX_NAME_WIDTH))
    for header, width in _MIN_WIDTHS.items():
        table.add_column(header, no_wrap=True, min_width=width)
    table.add_column("about")
    for task in tasks:
        table.add_row(*_cells(task))
    parts: list[RenderableType] = [table, *(Text(note) for note in _notes(num_left_out))]
    return Group(*parts)


def list_tasks_by_line(tasks: Sequence[ListedTask], *, num_left_out: int) -> Iterator[str]:
    """Yield a line for each task, whatever its length, with the columns below each other; then the notes."""
    rows = [_HEADERS, *(_cells(task) for task in tasks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield from _notes(num_left_out)


def _cells(task: ListedTask) -> tuple[str, ...]:
    """Return the cells below `_HEADERS`."""
    return task.name, task.kind, task.origin, task.metric or "", task.about


def _notes(num_left_out: int) -> Iterator[str]:
    yield _EXPLANATION
    if num_left_out:
        yield (
            f"And {num_left_out:,} more of lm-evaluation-harness: `sweep tasks WORD` searches their names, "
            "`sweep tasks --all` lists them."
        )
