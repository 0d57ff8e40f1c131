"""What `sweep doctor` found, on the terminal."""

from collections.abc import Sequence
from typing import Protocol

from rich.console import Group
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


def render_checks(checks: Sequence[Check]) -> Group:
    """Draw findings, a line each, with what to do beneath; then whether this machine will do."""
    width = max(len(check.subject) for check in checks)
    lines = []
    for check in checks:
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
