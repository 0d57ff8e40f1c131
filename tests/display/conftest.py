"""Golden frames: what the display draws, as text that a person can read and a test compares.

After a wanted change, `UPDATE_GOLDEN=1 pytest tests/display` writes them anew; read the difference before committing.
"""

import io
import os
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from runner.analysis.study import Study
from runner.display.report.build import build_document
from runner.display.report.terminal import render_report

MANIFEST = {"sweep": {"name": "clocks-small"}}
GOLDEN = Path(__file__).parent / "golden"


def render_text(renderable: RenderableType, width: int, height: int) -> str:
    """Draw without colours, as on a terminal with NO_COLOR set."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        height=height,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
        _environ={},
    )
    console.print(renderable)
    return stream.getvalue()


@pytest.fixture
def render():
    return render_text


@pytest.fixture
def draw_report():
    """Return the report of a study as a terminal of some width shows it."""

    def draw(study: Study, width: int) -> str:
        return render_text(render_report(build_document(study, MANIFEST), width), width, 100)

    return draw


@pytest.fixture
def check_golden():
    """Compare text with tests/display/golden/NAME.txt, and see that no line is wider than `width` cells."""

    def check(name: str, text: str, width: int) -> None:
        assert max(cell_len(line) for line in text.splitlines()) <= width
        path = GOLDEN / f"{name}.txt"
        visible = "".join(line.rstrip() + "\n" for line in text.splitlines())
        if os.environ.get("UPDATE_GOLDEN"):
            path.write_text(visible, encoding="utf-8")
        assert visible == path.read_text(encoding="utf-8")

    return check
