"""The tasks on the terminal: a name to put into a sweep file, what its requests do, and by what it is judged."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.tasks.listing import ListedTask

_EXPLANATION = (
    "prefill only: log-likelihoods of given answers, no token is generated; energy is per prompt token. "
    "generating: prefill and decoding; energy is per output token. "
    'A name goes into a sweep file as [[task]] name = "NAME".'
)


def render_tasks(tasks: Sequence[ListedTask], *, num_left_out: int) -> Group:
    """Draw the tasks.

    Args:
        num_left_out: tasks of the harness that are not shown; the last line says how to find them.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    for header, width in (("kind", 13), ("from", 7), ("metric", 11)):
        table.add_column(header, no_wrap=True, min_width=width)
    table.add_column("about")
    for task in tasks:
        table.add_row(task.name, task.kind, task.origin, task.metric or "", task.about)
    parts: list[RenderableType] = [table, Text(_EXPLANATION)]
    if num_left_out:
        parts.append(
            Text(
                f"And {num_left_out:,} more of lm-evaluation-harness: `sweep tasks WORD` searches their names, "
                "`sweep tasks --all` lists them."
            )
        )
    return Group(*parts)
