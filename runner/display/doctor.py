"""What `sweep doctor` is looking at and what it found, on the terminal."""

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
        """What it is about."""
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
        """Whether it is only for those who ask for all of it."""
        ...


@contextmanager
def show_looks(console: Console, *, is_quiet: bool = False) -> Iterator[Callable[[str, str | None], None]]:
    """Show on a terminal what is being looked at, in a line that goes away at the end.

    Yields a function that takes a subject, and what of it is being looked at, or None once the subject is done.
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
    """Return in a line what is being looked at, from what of each subject."""
    subjects: dict[str, list[str]] = {}
    for subject in sorted(looks, key=lambda name: (len(name), name)):  # GPU 2 before GPU 10
        subjects.setdefault(looks[subject], []).append(subject)
    parts = [f"the {part} of {', '.join(of)}" for part, of in subjects.items()]
    return "Looking at " + (", ".join(parts) or "this machine")


def render_checks(checks: Sequence[Check], *, verbose: bool = False) -> Group:
    """Draw findings, a line each, with what to do beneath; then whether this machine will do.

    Args:
        verbose: also draw the details.
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
