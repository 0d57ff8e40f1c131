"""The report on the terminal: a table a block, what it says in a sentence, and what went wrong.

Rows of `tables.TRIALS` and the manifest enter, a rich renderable leaves. The arithmetic is `analysis.summary`'s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from runner.analysis.summary import BLOCK, count_failures, count_verdicts, summarise_operating_points
from runner.analysis.validity import VERDICTS
from runner.display.dashboard import SIMULATED_MEANING, SIMULATED_NOTICE
from runner.display.findings import Point, describe_block, format_difference, name_block
from runner.display.quantities import UNKNOWN, format_change, format_energy, format_number, num_decimals

LEAST_MARK, UNSOUND_MARK = "▸", "!"
_GAP = 2
_BOARDS_NOTICE = (
    "Measured on {} boards. Two boards of one kind differ by about 5 % in the energy that they report: "
    "compare the rows of one table, not one table with another."
)


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


def render_report(trials: pl.DataFrame, manifest: Mapping[str, Any], width: int) -> Group:
    """Draw the report for a terminal `width` cells wide; numbers are never cut, columns are left out instead.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
        manifest: manifest.json; its sweep's name is shown.
        width: cells, >= 40.
    """
    if trials.is_empty():
        return Group(Text("No trial has finished yet."))
    parts: list[RenderableType] = [*_overview(trials, manifest)]
    left_out: dict[str, None] = {}
    blocks = summarise_operating_points(trials).partition_by(*BLOCK, maintain_order=True)
    for points in (block.to_dicts() for block in blocks):
        columns, dropped = fit_columns(build_columns(points), width)
        left_out |= dict.fromkeys(dropped)
        parts += ["", _title(points[0]), _table(points, columns), *_notes(points), Text(describe_block(points))]
    if left_out:
        parts += [
            "",
            Text(f"Left out for lack of width: {', '.join(left_out)} (sweep report --json has them).", style="dim"),
        ]
    parts += _problems(trials)
    return Group(*parts)


def build_columns(points: Sequence[Point]) -> list[Column]:
    """Return every column that a block's table could show, in order; where nothing is known there is no column."""
    token = points[0]["token_kind"]
    rate, unit = ("output_tokens_per_s", "tokens/s") if token == "output" else ("requests_per_s", "requests/s")
    energy, latency = "joules_per_token", "latency_s_p50"
    columns = [
        Column("", "", _cells(points, _mark), 0),
        Column("SM clock MHz", "SM clock", _cells(points, _clock), 0, justify_left=True),
        *_axes(points),
        Column("J/token" if token == "output" else "J/prompt token", "energy", _numbers(points, energy), 0),
        Column("±", "error of the energy", _errors(points, energy), 7),
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
    return [c for c in columns if c.rank == 0 or c.name == "quality" or not set(c.cells) <= {UNKNOWN, ""}]


def fit_columns(columns: list[Column], width: int) -> tuple[list[Column], list[str]]:
    """Leave out the columns of highest rank until the rest fits; return those that stay and the names of the others."""
    kept = list(columns)
    dropped = []
    while sum(column.width + _GAP for column in kept) - _GAP > width:
        last = max(kept, key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
        dropped.append(last.name)
    return kept, dropped


def _overview(trials: pl.DataFrame, manifest: Mapping[str, Any]) -> Iterator[Text]:
    name = manifest.get("sweep", {}).get("name", "sweep")
    num_failed = trials.filter(pl.col("status") == "failed").height
    num_verdicts = trials.filter(pl.col("status") == "ok", pl.col("verdicts").list.len() > 0).height
    counts = [f"{trials.height:,} trials", f"{trials.height - num_failed - num_verdicts:,} sound"]
    counts += [f"{num_verdicts:,} with verdicts"] if num_verdicts else []
    counts += [f"{num_failed:,} failed"] if num_failed else []
    energy_j = sum(trials["energy_j"].drop_nulls().to_list()) if trials["energy_j"].count() else None
    boards = trials["gpu_uuids"].explode(empty_as_null=True).drop_nulls().n_unique()
    names = ", ".join(sorted(trials["gpu_name"].drop_nulls().unique()))
    yield Text.assemble((name, "bold"), f": {', '.join(counts)}, {format_energy(energy_j)} measured")
    yield Text(f"{names or 'unknown board'}{f', {boards} boards' if boards > 1 else ''}", style="dim")
    if trials["simulated"].any():
        yield Text(f"{SIMULATED_NOTICE}: {SIMULATED_MEANING}.", style="bold yellow")
    if boards > 1:
        yield Text(_BOARDS_NOTICE.format(boards), style="dim")


def _title(point: Point) -> Text:
    title = Text(name_block(point), style="bold")
    return title.append(f" · {SIMULATED_NOTICE}", style="yellow") if point["simulated"] else title


def _table(points: Sequence[Point], columns: Sequence[Column]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        header_style="dim",
    )
    for column in columns:
        table.add_column(
            column.header, justify="left" if column.justify_left else "right", no_wrap=True, width=column.width
        )
    for i, point in enumerate(points):
        style = "bold green" if point["is_least_energy"] else "" if point["is_sound"] else "yellow"
        table.add_row(*(Text(column.cells[i]) for column in columns), style=style)
    return table


def _notes(points: Sequence[Point]) -> Iterator[Text]:
    """What the marks of this table mean, and why a quality is missing or says little."""
    notes = []
    if any(point["is_least_energy"] for point in points):
        notes.append(f"{LEAST_MARK} least energy")
    if any(_mark(point) == UNSOUND_MARK for point in points):
        notes.append(f"{UNSOUND_MARK} only trials with verdicts or failures: not to be trusted")
    if any(point["num_averaged"] != point["num_trials"] for point in points):
        notes.append("n: trials averaged/trials run")
    if notes:
        yield Text(" · ".join(notes), style="dim")
    metric = next((point["quality_metric"] for point in points if point["quality_metric"]), None)
    if metric is not None:
        yield Text(f"quality: {metric}", style="dim")
    for reason in dict.fromkeys(p["quality_reason"] for p in points if p["quality"] is None and p["quality_reason"]):
        yield Text(f"{UNKNOWN} in quality: {_one_line(reason)}", style="dim")
    if any(_is_guessing(point) for point in points):
        yield Text(f"quality is no better than guessing ({points[0]['quality_chance']:.3f})", style="yellow")


def _problems(trials: pl.DataFrame) -> Iterator[RenderableType]:
    failures, verdicts = count_failures(trials), count_verdicts(trials)
    if verdicts.height:
        meanings = {code: VERDICTS.get(code, "a code that this version does not know") for code in verdicts["verdict"]}
        yield from ("", Rule(Text("verdicts"), align="left", style="dim"))
        yield _counted([(num_trials, f"{code}: {meanings[code]}") for code, num_trials in verdicts.iter_rows()])
    if failures.height:
        yield from ("", Rule(Text("failures"), align="left", style="dim"))
        yield _counted(
            [(num_trials, _one_line(error or "no reason recorded")) for error, num_trials in failures.iter_rows()]
        )


def _counted(lines: Sequence[tuple[int, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for num_trials, text in lines:
        grid.add_row(f"{num_trials:,} trial{'s' if num_trials != 1 else ''}", Text(text))
    return grid


def _axes(points: Sequence[Point]) -> Iterator[Column]:
    """Memory clock and power limit, where the sweep varies them."""
    for key, header in (("mem_clock_mhz_requested", "memory MHz"), ("power_limit_w_requested", "limit W")):
        asked = [point[key] for point in points]
        if any(value is not None for value in asked):
            yield Column(header, header, tuple(_asked(value) for value in asked), 0)


def _mark(point: Point) -> str:
    if point["is_least_energy"]:
        return LEAST_MARK
    return "" if point["is_sound"] else UNSOUND_MARK


def _clock(point: Point) -> str:
    asked, ran = point["sm_clock_mhz_requested"], point["sm_clock_mhz"]
    return f"{_asked(asked):>7} → {UNKNOWN if ran is None else f'{ran:.0f}'}"


def _num_trials(point: Point) -> str:
    averaged, run = point["num_averaged"], point["num_trials"]
    return f"{averaged}" if averaged == run else f"{averaged}/{run}"


def _is_guessing(point: Point) -> bool:
    quality, stderr, chance = point["quality"], point["quality_stderr"], point["quality_chance"]
    return None not in (quality, stderr, chance) and abs(quality - chance) <= 2 * stderr


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


def _errors(points: Sequence[Point], key: str) -> tuple[str, ...]:
    return tuple(format_number(point[f"{key}_sem"], num_digits=2) for point in points)


def _changes(points: Sequence[Point], key: str) -> tuple[str, ...]:
    """In per cent, as the header says."""
    return tuple(_or_base(point, format_change(point[f"{key}_change"]).removesuffix(" %")) for point in points)


def _or_base(point: Point, change: str) -> str:
    """The default row is what the others are compared with, where it has a number at all."""
    return "base" if point["is_default"] and change != UNKNOWN else change


def _one_line(text: str) -> str:
    return " ".join(text.split())
