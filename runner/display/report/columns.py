"""The columns of the report's tables: rows of `analysis.operating_points.OPERATING_POINTS` enter, tables leave.

Numbers are never cut: on a narrow terminal whole columns give way. Next: report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from runner.display.text.findings import Point, format_difference, short_names
from runner.display.text.quantities import UNKNOWN, format_change_interval, format_number, num_decimals

LEAST_MARK, UNSOUND_MARK = "▸", "!"
GAP = 2
"""Cells between two columns."""


@dataclass(frozen=True)
class Column:
    """One column of a table, ready to print."""

    header: str
    name: str
    """What the note on left-out columns calls it."""
    cells: tuple[str, ...]
    rank: int
    """Order in which columns give way on a narrow terminal, highest first; 0 stays."""
    justify_left: bool = False

    @property
    def width(self) -> int:
        """Cells that the column needs."""
        return max(cell_len(text) for text in (self.header, *self.cells))


def build_columns(points: Sequence[Point]) -> list[Column]:
    """Return every column that a block's table could show, in order; where nothing is known there is no column."""
    token = points[0]["token_kind"]
    rate, unit = ("output_tokens_per_s", "tokens/s") if token == "output" else ("requests_per_s", "requests/s")
    energy, latency = "joules_per_token", "latency_s_p50"
    columns = [
        Column("", "", _cells(points, mark if len(points) > 1 else _unsound), 0),
        Column("SM clock MHz", "SM clock", _cells(points, _clock), 0, justify_left=True),
        *_axes(points),
        Column("J/token" if token == "output" else "J/prompt token", "energy", _numbers(points, energy), 0),
        Column("±", "interval of the energy", _half_widths(points, energy), 7),
        Column("Δ %", "change of the energy", _changes(points, energy), 1),
        Column(unit, "throughput", _numbers(points, rate), 5),
        Column("latency s", "latency", _numbers(points, latency), 4),
        Column("Δ %", "change of the latency", _changes(points, latency), 2),
        Column("TPOT ms", "TPOT", _numbers(points, "tpot_s_p50", scale=1e3), 9),
        Column("power W", "mean power", _numbers(points, "mean_power_w"), 8),
        Column("quality", "quality", _scores(points, "quality"), 3),
        Column("±", "error of the quality", _scores(points, "quality_stderr"), 10),
        Column("Δ", "change of the quality", _cells(points, _quality_change), 11),
        Column("n", "number of trials", _cells(points, _num_trials), 6),
        Column("verdicts", "verdicts by row", _cells(points, _verdicts), 12, justify_left=True),
    ]
    return [c for c in columns if c.rank == 0 or c.name == "quality" or not set(c.cells) <= {UNKNOWN, "", "base"}]


def default_columns(points: Sequence[Point], gpus: Mapping[str, str]) -> list[Column]:
    """Return the columns of the table that sets all blocks side by side at the default clock.

    Args:
        points: [num_blocks] the default operating point of each.
        GPUs: names by UUID; shown where there are several.
    """
    by_kind = {kind: _energy_of(points, kind) for kind in ("output", "prompt")}
    columns = [
        Column("", "", _cells(points, _unsound), 0),
        *_block_columns(points, gpus),
        Column("SM MHz", "SM clock", _cells(points, _ran), 7),
        Column("J/token", "energy", by_kind["output"], 0),
        Column("J/prompt token", "energy of prompts", by_kind["prompt"], 1),
        Column("±", "interval of the energy", _half_widths(points, "joules_per_token"), 3),
        Column("tokens/s", "throughput", _each(points, "output_tokens_per_s"), 4),
        Column("latency s", "latency", _each(points, "latency_s_p50"), 5),
        Column("TTFT ms", "TTFT", _each(points, "ttft_s_p50", scale=1e3), 8),
        Column("TPOT ms", "TPOT", _each(points, "tpot_s_p50", scale=1e3), 9),
        Column("power W", "mean power", _each(points, "mean_power_w"), 2),
        Column("quality", "quality", _scores(points, "quality"), 6),
        Column("n", "number of trials", _cells(points, _num_trials), 10),
    ]
    return [column for column in columns if not set(column.cells) <= {UNKNOWN, ""}]


def phase_columns(points: Sequence[Point]) -> list[Column]:
    """Return the columns of a block's table of prefill and decode energy."""
    clock = Column("SM clock MHz", "SM clock", _cells(points, _clock), 0, justify_left=True)
    return [clock, *_axes(points), *_phase_energies(points)]


def default_phase_columns(points: Sequence[Point], gpus: Mapping[str, str]) -> list[Column]:
    """Return the columns of the table that sets prefill and decode energy of all blocks side by side.

    Args:
        points: [num_blocks] the default operating point of each in which they were measured.
        GPUs: names by UUID; shown where there are several.
    """
    method = Column("by", "method", _cells(points, lambda point: str(point["phase_method"])), 3, justify_left=True)
    return [*_block_columns(points, gpus), method, *_phase_energies(points)]


def fit_columns(columns: list[Column], width: int) -> tuple[list[Column], list[str]]:
    """Leave out the columns of highest rank until the rest fits; return those that stay and the names of the others."""
    kept = list(columns)
    dropped = []
    while sum(column.width + GAP for column in kept) - GAP > width:
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
            column.header, justify="left" if column.justify_left else "right", no_wrap=True, width=column.width
        )
    for i, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*map(Text, cells), style=styles[i] if styles else "")
    return table


def _block_columns(points: Sequence[Point], gpus: Mapping[str, str]) -> Iterator[Column]:
    """What tells blocks apart."""
    names = short_names([point["model"] for point in points])
    in_flight = tuple(UNKNOWN if point["concurrency"] is None else str(point["concurrency"]) for point in points)
    yield Column("task", "task", _cells(points, lambda point: str(point["task"])), 0, justify_left=True)
    yield Column("model", "model", _cells(points, lambda point: names[point["model"]]), 0, justify_left=True)
    yield Column("in flight", "requests in flight", in_flight, 0)
    if len(gpus) > 1:
        where = tuple(", ".join(gpus[uuid] for uuid in point["gpu_uuids"]) for point in points)
        yield Column("gpu", "gpu", where, 1, justify_left=True)


def _phase_energies(points: Sequence[Point]) -> Iterator[Column]:
    """In millijoules: a token is read for about 1 and written for about 10 of them."""
    for rank, phase in enumerate(("prefill", "decode"), start=1):
        key = f"joules_per_{phase}_token"
        yield Column(f"{phase} mJ", f"{phase} energy", _numbers(points, key, scale=1e3), 0)
        yield Column("±", f"interval of the {phase} energy", _half_widths(points, key, scale=1e3), rank)


def _axes(points: Sequence[Point]) -> Iterator[Column]:
    """Memory clock and power limit, where the sweep varies them."""
    for key, header in (("mem_clock_mhz_requested", "memory MHz"), ("power_limit_w_requested", "limit W")):
        asked = [point[key] for point in points]
        if any(value is not None for value in asked):
            yield Column(header, header, tuple(_asked(value) for value in asked), 0)


def mark(point: Point) -> str:
    """Return the sign before a row: least energy, or not to be trusted."""
    return LEAST_MARK if point["is_least_energy"] else _unsound(point)


def _unsound(point: Point) -> str:
    return "" if point["is_sound"] else UNSOUND_MARK


def _clock(point: Point) -> str:
    return f"{_asked(point['sm_clock_mhz_requested']):>7} → {_ran(point)}"


def _ran(point: Point) -> str:
    return UNKNOWN if point["sm_clock_mhz"] is None else f"{point['sm_clock_mhz']:.0f}"


def _num_trials(point: Point) -> str:
    averaged, run = point["num_averaged"], point["num_trials"]
    return f"{averaged}" if averaged == run else f"{averaged}/{run}"


def _asked(value: float | None) -> str:
    return "default" if value is None else f"{value:.0f}"


def _verdicts(point: Point) -> str:
    return ", ".join(point["verdicts"])


def _quality_change(point: Point) -> str:
    return _or_base(point, format_difference(point["quality_difference"]))


def _cells(points: Sequence[Point], text: Callable[[Point], str]) -> tuple[str, ...]:
    return tuple(text(point) for point in points)


def _scores(points: Sequence[Point], key: str) -> tuple[str, ...]:
    return tuple(UNKNOWN if point[key] is None else f"{point[key]:.3f}" for point in points)


def _numbers(points: Sequence[Point], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Values with as many decimals as give the smallest one three significant digits."""
    values = [None if point[key] is None else scale * point[key] for point in points]
    decimals = max((num_decimals(value) for value in values if value), default=0)
    return tuple(UNKNOWN if value is None else f"{value:,.{decimals}f}" for value in values)


def _energy_of(points: Sequence[Point], token_kind: str) -> tuple[str, ...]:
    """Joules a token where tokens are of that kind."""
    return tuple(
        format_number(point["joules_per_token"]) if point["token_kind"] == token_kind else UNKNOWN for point in points
    )


def _each(points: Sequence[Point], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Values of several blocks, which may be far apart, each with its own significant digits."""
    return tuple(format_number(None if point[key] is None else scale * point[key]) for point in points)


def _half_widths(points: Sequence[Point], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Of the 95 % interval; its two sides differ by less than its last digit unless it is very wide."""
    bounds = ((point[f"{key}_low"], point[f"{key}_high"]) for point in points)
    return tuple(format_number(None if low is None else scale * (high - low) / 2, num_digits=2) for low, high in bounds)


def _changes(points: Sequence[Point], key: str) -> tuple[str, ...]:
    """In per cent, as the header says."""
    names = (f"{key}_change", f"{key}_change_low", f"{key}_change_high")
    return _aligned([_or_base(point, format_change_interval(*(point[name] for name in names))) for point in points])


def _aligned(cells: Sequence[str]) -> tuple[str, ...]:
    """Changes under changes and intervals under intervals."""
    width = max(cell_len(cell.partition("±")[2]) for cell in cells)
    if width == 0:
        return tuple(cells)
    halves = [cell.partition("±") for cell in cells]
    return tuple(
        f"{change}{sign or ' '}{half:>{width}}" if sign else change + " " * (width + 2) for change, sign, half in halves
    )


def _or_base(point: Point, change: str) -> str:
    """The default row is what the others are compared with, where it has a number at all."""
    return "base" if point["is_default"] and change != UNKNOWN else change
