"""The live dashboard: how far the sweep is, what every GPU does, and the last events.

`SweepView`s enter; a screen leaves. `render_dashboard` is a pure function of the view and the size of the screen.
`Dashboard` keeps it on a terminal. Without a terminal, `plain_lines.PlainLines` takes its place.
"""

from collections.abc import Sequence
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from runner.display.live.panels import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    TWO_LINES_WIDTH,
    render_one_line,
    render_panel,
    render_two_lines,
)
from runner.display.text.quantities import format_duration, format_energy, format_timestamp
from runner.display.text.simulated import SIMULATED_MEANING, SIMULATED_NOTICE
from runner.results.live import Event, GpuView, SweepView

REFRESHES_PER_S = 4

_EVENT_LINES_MIN = 4
_CHART_HEIGHT_MIN, _CHART_HEIGHT_MAX = 2, 6
_EVENT_MARKS = {"info": (" ", ""), "warning": ("!", "yellow"), "error": ("✗", "red")}


class Dashboard:
    """Shows the latest view on the terminal's alternate screen, at most four times a second.

    A context manager. On exit it prints the last frame, so that it stays in the scrollback.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._view: SweepView | None = None
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            screen=True,
            refresh_per_second=REFRESHES_PER_S,
            vertical_overflow="crop",
        )

    def __enter__(self) -> "Dashboard":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._view is not None:
            self._console.print(self._render())

    def update(self, view: SweepView) -> None:
        """Show this view from the next refresh on. Any thread may call it."""
        self._view = view

    def _render(self) -> RenderableType:
        if self._view is None:
            return Text("Starting the sweep …", style="dim")
        width, height = self._console.size
        return render_dashboard(self._view, width, height)


def render_dashboard(view: SweepView, width: int, height: int) -> Group:
    """Draw a view in at most `height` lines, none of them wider than `width`.

    GPUs take the largest form that fits: panels with a power chart, two lines each, or one line each.
    """
    header = _header(view, width)[: max(height - 1, 1)]
    room = height - len(header)
    gpus, num_gpu_lines = _arrange_gpus(view.gpus, width, max(room - _EVENT_LINES_MIN, min(room, len(view.gpus))))
    events = _last_events(view, width, room - num_gpu_lines)
    return Group(*header, *gpus, *events)


def _header(view: SweepView, width: int) -> list[RenderableType]:
    """Return the lines at the top, most important first: a low screen shows only the first ones."""
    lines: list[RenderableType] = [_title(view, width)]
    if view.simulated:
        lines.append(_simulated_banner(width))
    return [*lines, _progress(view, width), _totals(view, width)]


def _title(view: SweepView, width: int) -> Text:
    elapsed = f"{format_duration(view.elapsed_s)} elapsed"
    title = Text(view.name, style="bold")
    if cell_len(f"{view.name}  {view.run_directory}  {elapsed}") <= width:
        title = Text.assemble(title, "  ", (view.run_directory, "dim"))
    if title.cell_len + 2 + len(elapsed) <= width:
        title.pad_right(width - title.cell_len - len(elapsed))
        title.append(elapsed)
    return _cut(title, width)


def _simulated_banner(width: int) -> Text:
    meanings = (f": {SIMULATED_MEANING}", ": time, energy modelled", "")
    text = next(
        (text for meaning in meanings if len(text := f" {SIMULATED_NOTICE}{meaning}") <= width), SIMULATED_NOTICE
    )
    return _cut(Text(text.ljust(width), style="bold reverse yellow"), width)


def _progress(view: SweepView, width: int) -> Text:
    """Return a bar that can be read without colours, and the count of trials."""
    share = min(view.num_done / view.num_trials, 1.0) if view.num_trials else 0.0
    count = f"{view.num_done:,} of {view.num_trials:,} trials  {int(100 * share):3d} %"
    bar_width = width - len(count) - 2
    if bar_width < 10:
        return _cut(Text(count, style="bold"), width)
    num_full = int(share * bar_width)
    bar = ("━" * num_full, "green"), ("╌" * (bar_width - num_full), "bright_black")
    return _cut(Text.assemble(*bar, "  ", (count, "bold")), width)


def _totals(view: SweepView, width: int) -> Text:
    """Return time left, energy and counts; the least important are left out where there is no room."""
    parts = [(0, _time_left(view), ""), (3, format_energy(view.energy_j), "")]  # (rank when left out, text, style)
    if view.num_resumed:
        parts.append((4, f"{view.num_resumed:,} resumed", "dim"))
    if view.num_with_verdicts:
        parts.append((2, f"! {view.num_with_verdicts:,} with verdicts", "yellow"))
    if view.num_failed:
        parts.append((1, f"✗ {view.num_failed:,} failed", "red"))
    while sum(len(text) + 3 for _, text, _ in parts) - 3 > width and len(parts) > 1:
        parts.remove(max(parts))
    return _cut(Text(" · ").join(Text(text, style=style) for _, text, style in parts), width)


def _time_left(view: SweepView) -> str:
    if view.num_done >= view.num_trials > 0:
        return "finished"
    if view.remaining_s is None:
        return "time left not known yet"
    return f"about {format_duration(view.remaining_s, whole_minutes=True)} left"


def _arrange_gpus(gpus: tuple[GpuView, ...], width: int, room: int) -> tuple[list[RenderableType], int]:
    """Return the GPUs and the number of lines that they take, at most `room`."""
    if not gpus or room < 1:
        return [], 0
    for num_columns in (1, 2):
        num_rows = -(-len(gpus) // num_columns)
        panel_width = width // num_columns
        chart_height = min(room // num_rows - PANEL_HEIGHT, _CHART_HEIGHT_MAX)
        if panel_width >= PANEL_WIDTH and chart_height >= _CHART_HEIGHT_MIN:
            panels = [render_panel(gpu, panel_width, chart_height) for gpu in gpus]
            return [_grid(panels, num_columns)], num_rows * (PANEL_HEIGHT + chart_height)
    if width >= TWO_LINES_WIDTH and 2 * len(gpus) <= room:
        return [render_two_lines(gpus, width)], 2 * len(gpus)
    shown = gpus if len(gpus) <= room else gpus[: room - 1]
    lines: list[RenderableType] = [render_one_line(gpu, width) for gpu in shown]
    if len(shown) < len(gpus):
        lines.append(_cut(Text(f"and {len(gpus) - len(shown)} more GPUs; enlarge the terminal", style="dim"), width))
    return lines, len(lines)


def _grid(panels: Sequence[RenderableType], num_columns: int) -> Table:
    grid = Table.grid()
    for start in range(0, len(panels), num_columns):
        grid.add_row(*panels[start : start + num_columns])
    return grid


def _last_events(view: SweepView, width: int, room: int) -> list[RenderableType]:
    if room < 2:
        return []
    title = Rule(Text("events", style="dim"), align="left", style="bright_black")
    return [title, *(_event_line(event, view.start_ns, width) for event in view.events[-(room - 1) :])]


def _event_line(event: Event, start_ns: int | None, width: int) -> Text:
    mark, style = _EVENT_MARKS[event.level]
    timestamp = "" if start_ns is None else format_timestamp((event.time_ns - start_ns) / 1e9)
    message = " ".join(event.message.split())
    return _cut(Text.assemble((f"{timestamp:>7} ", "dim"), (f"{mark} {message}", style)), width)


def _cut(text: Text, width: int) -> Text:
    """Return the text as one line of at most `width` cells."""
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text
