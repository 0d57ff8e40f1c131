"""The output of `sweep doctor` on the terminal: what it examines now, and what it found."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.text import Text

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


class Check(Protocol):
    """One finding (`hardware.doctor.Check`)."""

    @property
    def level(self) -> str:
        """ok, warning or error."""
        ...

    @property
    def subject(self) -> str:
        """A GPU, or a part of the machine."""
        ...

    @property
    def finding(self) -> str:
        """What was found."""
        ...

    @property
    def advice(self) -> str | None:
        """What to do about it."""
        ...

    @property
    def is_detail(self) -> bool:
        """Whether it is shown only with --verbose."""
        ...


@contextmanager
def show_looks(console: Console, *, is_quiet: bool = False) -> Iterator[Callable[[str, str | None], None]]:
    """Show on a terminal what is examined now, in a line that disappears at the end.

    Yields a function that takes a subject and the part of it that is examined now; None once the subject is done.

    Args:
        is_quiet: show nothing, as on a pipe.
    """
    if is_quiet or not console.is_terminal:
        yield lambda subject, part: None
        return
    looks: dict[str, str] = {}
    changing = threading.Lock()
    with console.status(describe_looks(looks)) as status:

        def show(subject: str, part: str | None) -> None:
            with changing:
                if part is None:
                    looks.pop(subject, None)
                else:
                    looks[subject] = part
                status.update(describe_looks(looks))

        yield show


def describe_looks(looks: Mapping[str, str]) -> str:
    """Return a line on what is examined now, from the part of each subject."""
    subjects: dict[str, list[str]] = {}
    for subject in sorted(looks, key=lambda name: (len(name), name)):  # GPU 2 before GPU 10
        subjects.setdefault(looks[subject], []).append(subject)
    parts = [f"the {part} of {', '.join(of)}" for part, of in subjects.items()]
    return "Looking at " + (", ".join(parts) or "this machine")


def render_checks(checks: Sequence[Check], *, verbose: bool = False) -> Group:
    """Draw a line for each finding, with the advice below it, and a last line on whether this machine can measure.

    Args:
        verbose: draw the details too.
    """
    width = max(len(check.subject) for check in checks)
    lines = []
    for check in checks:
        if check.is_detail and not verbose:
            continue
        mark, style = _MARKS[check.level]
        lines.append(Text.assemble((mark, style), f" {check.subject:<{width}}  {check.finding}"))
        if check.advice:
            lines.append(Text(f"  {'':<{width}}  → {check.advice}", style="dim"))
    num_errors = sum(check.level == "error" for check in checks)
    num_warnings = sum(check.level == "warning" for check in checks)
    if num_errors:
        lines.append(Text("This machine cannot measure yet.", style="bold red"))
    else:
        noted = f", with {num_warnings} warnings" if num_warnings > 1 else ", with one warning" if num_warnings else ""
        lines.append(Text(f"This machine can measure{noted}.", style="bold"))
    return Group(*lines)
