"""One GPU of the dashboard at three sizes: a panel with a power chart, two lines, or one line.

A `GpuView` enters; rich renderables of a known height leave. Next: `dashboard.py`.
"""

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from runner.display.live.sparkline import draw_bars, resample
from runner.display.text.quantities import UNKNOWN, format_number
from runner.results.live import GpuPhase, GpuView

HISTORY_S = 60
PANEL_WIDTH = 58
"""The least width of a panel. A narrower one would cut numbers."""
PANEL_HEIGHT = 6
"""The lines of a panel around its chart: two borders, the workload, a blank, labels and values."""
TWO_LINES_WIDTH = 66

_PHASE_STYLES: dict[GpuPhase, str] = {"measuring": "green", "idle": "dim", "lost": "bold red"}
_CHART_STYLE = "cyan"
_WARNING_STYLE = "yellow"
_CLOCK_TOLERANCE_MHZ = 15
_AT_LIMIT_FRACTION = 0.98


def render_panel(gpu: GpuView, width: int, chart_height: int) -> Panel:
    """Draw a GPU as a panel of PANEL_HEIGHT + chart_height lines.

    Args:
        width: cells, at least PANEL_WIDTH.
        chart_height: lines, at least 2.
    """
    inner = width - 4
    title = Text.assemble(
        (f"GPU {gpu.label}", "bold"), " · ", _phase(gpu), " · ", (_one_line(gpu.name) + _simulated_mark(gpu), "dim")
    )
    title.truncate(width - 6, overflow="ellipsis")
    counts = f"{gpu.num_requests_done:,} requests · {gpu.num_trials_done:,} trials done"
    return Panel(
        Group(_work(gpu, inner), "", _facts(gpu, inner), _chart(gpu, inner, chart_height)),
        title=title,
        title_align="left",
        subtitle=Text(f"{counts} ── power, last {HISTORY_S} s", style="dim"),
        subtitle_align="right",
        border_style="red" if gpu.phase == "lost" else "bright_black",
        box=box.ROUNDED,
        width=width,
        height=PANEL_HEIGHT + chart_height,
    )


def render_two_lines(gpus: tuple[GpuView, ...], width: int) -> RenderableType:
    """Draw every GPU as two aligned lines, at least TWO_LINES_WIDTH wide."""
    label_width = min(max((cell_len(gpu.label) for gpu in gpus), default=1), 8)
    middle_width = width - label_width - 12 - 24 - 3
    table = Table.grid(padding=(0, 1))
    for column_width in (label_width, 12, middle_width):
        table.add_column(width=column_width, no_wrap=True, overflow="ellipsis")
    table.add_column(width=24, no_wrap=True, justify="right")
    for gpu in gpus:
        [bars] = draw_bars(resample(gpu.power_history_w, middle_width, capacity=HISTORY_S), top=_chart_top(gpu))
        table.add_row(
            Text(gpu.label, style="bold"), _phase(gpu), _work(gpu, middle_width), _beside(_rate(gpu), _joules(gpu), 12)
        )
        table.add_row(
            "", _power(gpu), Text(bars, style=_CHART_STYLE), _beside(_clock(gpu, unit=" MHz"), _temperature(gpu), 8)
        )
    return table


def render_one_line(gpu: GpuView, width: int) -> Text:
    """Draw a GPU as one line; the least important fields are left out where there is no room."""
    line = Text.assemble((gpu.label, "bold"), " ", _phase(gpu))
    line.pad_right(max(cell_len(gpu.label) + 13 - line.cell_len, 0))
    fields = ((_power(gpu), 9), (_clock(gpu), 12), (_joules(gpu), 11), (_rate(gpu), 12))
    for field, field_width in fields:
        padded = max(field_width, field.cell_len)
        if line.cell_len + 2 + padded > width:
            break
        line.append("  ").append_text(field).pad_right(padded - field.cell_len)
    room = width - line.cell_len - 2
    if room >= 12:
        line.append("  ").append_text(_work(gpu, room))
    line.truncate(width, overflow="ellipsis")
    return line


def _phase(gpu: GpuView) -> Text:
    mark = {"measuring": "●", "lost": "✗"}.get(gpu.phase, "○")
    return Text(f"{mark} {gpu.phase}", style=_PHASE_STYLES.get(gpu.phase, "cyan"))


def _simulated_mark(gpu: GpuView) -> str:
    return " (simulated)" if gpu.simulated and "simulated" not in gpu.name.lower() else ""


def _work(gpu: GpuView, width: int) -> Text:
    """Return the workload in one line; the model's name is shortened first."""
    if gpu.model is None:
        return Text("no work", style="dim")
    rest = "".join(f" · {part}" for part in (_one_line(gpu.task or ""), _in_flight(gpu)) if part)
    model = Text(_one_line(gpu.model))
    if model.cell_len + cell_len(rest) > width:
        model = Text(model.plain.rsplit("/", maxsplit=1)[-1])
    model.truncate(max(width - cell_len(rest), 8), overflow="ellipsis")
    work = model.append(rest)
    work.truncate(width, overflow="ellipsis")
    return work


def _in_flight(gpu: GpuView) -> str:
    return "" if gpu.load is None else str(gpu.load)


def _facts(gpu: GpuView, width: int) -> Table:
    """Return labels above values. The labels have the units, so that values stay short."""
    wide = width >= 74
    facts = (  # label, value, width
        ("SM clock MHz", _clock(gpu, arrow=" → "), 17),
        ("power W", _power(gpu, separator=" of ", unit=""), 15 if wide else 13),
        ("°C", Text(_whole(gpu.temperature_c)), 7 if wide else 5),
        (
            f"{gpu.token_kind} tokens/s" if wide else "tokens/s",
            Text(format_number(gpu.tokens_per_s)),
            17 if wide else 10,
        ),
        (f"J per {gpu.token_kind} token" if wide else "J/token", _joules(gpu, unit=""), 18 if wide else 9),
    )
    table = Table.grid(expand=True)
    for _, _, column_width in facts:
        table.add_column(no_wrap=True, ratio=column_width)
    table.add_row(*(Text(label, style="dim") for label, _, _ in facts))
    table.add_row(*(value for _, value, _ in facts))
    return table


def _chart(gpu: GpuView, width: int, num_rows: int) -> Text:
    top_w = _chart_top(gpu)
    labels = [f"{top_w:.0f} W", *[""] * (num_rows - 2), "0 W"] if gpu.power_history_w else [""] * num_rows
    margin = 6
    columns = resample(gpu.power_history_w, width - margin, capacity=HISTORY_S)
    chart = Text(no_wrap=True, end="")
    for label, row in zip(labels, draw_bars(columns, top=top_w, num_rows=num_rows), strict=True):
        chart.append(f"{label:>{margin - 1}} ", style="dim").append(row, style=_CHART_STYLE).append("\n")
    chart.rstrip()
    return chart


def _chart_top(gpu: GpuView) -> float:
    """Return the power limit, or the greatest power where no limit is known or the power exceeds it."""
    return max(gpu.power_limit_w or 1.0, *gpu.power_history_w, 1.0)


def _clock(gpu: GpuView, *, arrow: str = "→", unit: str = "") -> Text:
    """Return the requested and the observed clock, marked where they differ inside a window."""
    asked, observed = gpu.sm_clock_mhz_requested, gpu.sm_clock_mhz
    if gpu.task is None or observed is None:
        return Text(_whole(observed) + (unit if observed is not None else ""))
    slipped = gpu.phase == "measuring" and asked is not None and abs(asked - observed) > _CLOCK_TOLERANCE_MHZ
    return _marked(f"{'default' if asked is None else asked}{arrow}{observed}{unit}", slipped)


def _power(gpu: GpuView, *, separator: str = "/", unit: str = " W") -> Text:
    if gpu.power_w is None or gpu.power_limit_w is None:
        return Text(_whole(gpu.power_w) + (unit if gpu.power_w is not None else ""))
    at_limit = gpu.power_w >= _AT_LIMIT_FRACTION * gpu.power_limit_w
    return _marked(f"{gpu.power_w:.0f}{separator}{gpu.power_limit_w:.0f}{unit}", at_limit)


def _temperature(gpu: GpuView) -> Text:
    return Text(UNKNOWN if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C")


def _rate(gpu: GpuView) -> Text:
    return Text(UNKNOWN if gpu.tokens_per_s is None else f"{format_number(gpu.tokens_per_s)} tok/s")


def _joules(gpu: GpuView, *, unit: str = " J/tok") -> Text:
    if gpu.joules_per_token is None:
        return Text(UNKNOWN)
    return Text(f"{format_number(gpu.joules_per_token)}{unit}", style="bold")


def _marked(text: str, is_warning: bool) -> Text:
    """Add a mark beside the colour, because colours may be off."""
    return Text(f"{text} !", style=_WARNING_STYLE) if is_warning else Text(text)


def _beside(left: Text, right: Text, right_width: int) -> Text:
    return Text.assemble(left, " " * max(right_width - right.cell_len, 1), right)


def _whole(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}"


def _one_line(text: str) -> str:
    """Replace line breaks and tabs by blanks."""
    return " ".join(text.split())
