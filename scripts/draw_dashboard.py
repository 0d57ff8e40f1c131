"""Draw the dashboard of a run as a picture: `draw_dashboard.py RUN/live.json FILE.svg [WIDTH HEIGHT]`.

A live view enters, as a run writes it once a second; an SVG leaves, as rich exports its terminal.
"""

import io
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from runner.display.live.dashboard import render_dashboard
from runner.results.live_file import read_view


def main() -> None:
    live_file, picture, *size = sys.argv[1:]
    width, height = map(int, size) if size else (100, 30)
    view = read_view(Path(live_file).parent)
    if view is None:
        raise SystemExit(f"{live_file} holds no live view of this release")
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(render_dashboard(view, width, height))
    # rich names a font on the network; the reader's own monospace does as well.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title=f"sweep run · {view.name}", code_format=form)
    Path(picture).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
