"""The columns of the tables of operating points, of one block and of all blocks side by side.

Rows of `operating_points.OPERATING_POINTS` and of `costs.COSTS` enter; `Column`s leave. Next: `block_sections.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from runner.analysis.advice.tariff import Tariff
from runner.display.report.document import Column
from runner.display.text.findings import format_difference
from runner.display.text.names import Row, load_heading, short_load, short_names
from runner.display.text.notes import mark_point, mark_unsound
from runner.display.text.quantities import UNKNOWN, format_change_interval, format_number, num_decimals
from runner.spec.load import read_load


def build_columns(points: Sequence[Row]) -> list[Column]:
    """Return the columns of a block's table, in order; a column in which nothing is known is left out.

    Args:
        points: [num_points] rows of one block, one at least.
    """
    token = points[0]["token_kind"]
    rate, unit = ("output_tokens_per_s", "tokens/s") if token == "output" else ("requests_per_s", "requests/s")
    energy, latency = "joules_per_token", "latency_s_p50"
    columns = [
        Column("", "", _cells(points, mark_point if len(points) > 1 else mark_unsound), 0),
        Column("SM clock MHz", "SM clock", _cells(points, _clock), 0, alignment="spaced"),
        *_axes(points),
        Column("J/token" if token == "output" else "J/prompt token", "energy", _numbers(points, energy), 0),
        Column("±", "interval of the energy", _half_widths(points, energy), 7),
        Column("Δ %", "change of the energy", _changes(points, energy), 1),
        Column(unit, "throughput", _numbers(points, rate), 5),
        Column("latency s", "latency", _numbers(points, latency), 4),
        Column("Δ %", "change of the latency", _changes(points, latency), 2),
        Column("TPOT ms", "TPOT", _numbers(points, "tpot_s_p50", scale=1e3), 9),
        Column("power W", "mean power", _numbers(points, "mean_power_w"), 8),
        Column("bound by", "what bound it", _cells(points, _bound), 13, alignment="left"),
        Column("quality", "quality", _scores(points, "quality"), 3),
        Column("±", "error of the quality", _scores(points, "quality_stderr"), 10),
        Column("Δ", "change of the quality", _cells(points, _quality_change), 11),
        Column("n", "number of trials", _cells(points, _num_trials), 6),
        Column("verdicts", "verdicts by row", _cells(points, _verdicts), 12, alignment="left"),
    ]
    return [c for c in columns if c.rank == 0 or c.name == "quality" or not set(c.cells) <= {UNKNOWN, "", "base"}]


def default_columns(points: Sequence[Row], gpus: Mapping[str, str]) -> list[Column]:
    """Return the columns of the table that sets all blocks side by side at the default clock.

    Args:
        points: [num_blocks] the default operating point of each.
        gpus: names by UUID; shown where there are several.
    """
    by_kind = {kind: _energy_of(points, kind) for kind in ("output", "prompt")}
    columns = [
        Column("", "", _cells(points, mark_unsound), 0),
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


def phase_columns(points: Sequence[Row]) -> list[Column]:
    """Return the columns of a block's table of prefill and decode energy."""
    clock = Column("SM clock MHz", "SM clock", _cells(points, _clock), 0, alignment="spaced")
    return [clock, *_axes(points), *_phase_energies(points)]


def default_phase_columns(points: Sequence[Row], gpus: Mapping[str, str]) -> list[Column]:
    """Return the columns of the table that sets prefill and decode energy of all blocks side by side.

    Args:
        points: [num_blocks] the default operating point of each in which they were measured.
        gpus: names by UUID; shown where there are several.
    """
    method = Column("by", "method", _cells(points, lambda point: str(point["phase_method"])), 3, alignment="left")
    return [*_block_columns(points, gpus), method, *_phase_energies(points)]


def cost_columns(costs: Sequence[Row], tariff: Tariff) -> list[Column]:
    """Return the columns of a block's table of money and carbon; one in which nothing is known is left out.

    Args:
        costs: [num_points] rows of `costs.COSTS` of one block, one at least.
    """
    clock = Column("SM clock MHz", "SM clock", _cells(costs, _clock), 0, alignment="spaced")
    a_million, good = f"million {costs[0]['token_kind']} tokens", "1,000 good requests"
    columns = [
        column
        for rank, (denominator, key, scale) in enumerate(
            ((a_million, "per_million_tokens", 1.0), (good, "per_good_request", 1e3))
        )
        for column in (
            Column(f"kWh/{denominator}", f"energy of {denominator}", _numbers(costs, f"kwh_{key}", scale=scale), rank),
            Column(tariff.money, f"money for {denominator}", _numbers(costs, f"cost_{key}", scale=scale), rank),
            Column("g CO2", f"carbon of {denominator}", _numbers(costs, f"co2_g_{key}", scale=scale), rank),
        )
    ]
    return [clock, *_axes(costs), *(column for column in columns if set(column.cells) != {UNKNOWN})]


def _block_columns(points: Sequence[Row], gpus: Mapping[str, str]) -> Iterator[Column]:
    """Yield task, model and load, and the GPU where there are several."""
    names = short_names([point["model"] for point in points])
    yield Column("task", "task", _cells(points, lambda point: str(point["task"])), 0, alignment="left")
    yield Column("model", "model", _cells(points, lambda point: names[point["model"]]), 0, alignment="left")
    heading = load_heading(map(read_load, points))
    yield Column(heading, "load", _cells(points, lambda point: short_load(read_load(point))), 0)
    if len(gpus) > 1:
        where = tuple(", ".join(gpus[uuid] for uuid in point["gpu_uuids"]) for point in points)
        yield Column("GPU", "GPU", where, 1, alignment="left")


def _phase_energies(points: Sequence[Row]) -> Iterator[Column]:
    """Energies per token in mJ: reading a token takes about 1 mJ, generating one about 10 mJ."""
    for rank, phase in enumerate(("prefill", "decode"), start=1):
        key = f"joules_per_{phase}_token"
        yield Column(f"{phase} mJ", f"{phase} energy", _numbers(points, key, scale=1e3), 0)
        yield Column("±", f"interval of the {phase} energy", _half_widths(points, key, scale=1e3), rank)


def _axes(points: Sequence[Row]) -> Iterator[Column]:
    """Yield memory clock and power limit, where the sweep varies them."""
    for key, header in (("mem_clock_mhz_requested", "memory MHz"), ("power_limit_w_requested", "limit W")):
        asked = [point[key] for point in points]
        if any(value is not None for value in asked):
            yield Column(header, header, tuple(_asked(value) for value in asked), 0)


def _clock(point: Row) -> str:
    most = "≤ " if point.get("clock_lock_requested") == "ceiling" else ""
    return f"{most + _asked(point['sm_clock_mhz_requested']):>7} → {_ran(point)}"


def _ran(point: Row) -> str:
    return UNKNOWN if point["sm_clock_mhz"] is None else f"{point['sm_clock_mhz']:.0f}"


def _num_trials(point: Row) -> str:
    averaged, run = point["num_averaged"], point["num_trials"]
    return f"{averaged}" if averaged == run else f"{averaged}/{run}"


def _asked(value: float | None) -> str:
    return "default" if value is None else f"{value:.0f}"


def _bound(point: Row) -> str:
    return point["bound_by"] or UNKNOWN


def _verdicts(point: Row) -> str:
    return ", ".join(point["verdicts"])


def _quality_change(point: Row) -> str:
    return _or_base(point, format_difference(point["quality_difference"]))


def _cells(points: Sequence[Row], text: Callable[[Row], str]) -> tuple[str, ...]:
    return tuple(text(point) for point in points)


def _scores(points: Sequence[Row], key: str) -> tuple[str, ...]:
    return tuple(UNKNOWN if point[key] is None else f"{point[key]:.3f}" for point in points)


def _numbers(points: Sequence[Row], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Return values of one block with equal decimals, so many that the smallest has three significant digits."""
    values = [None if point[key] is None else scale * point[key] for point in points]
    decimals = max((num_decimals(value) for value in values if value), default=0)
    return tuple(UNKNOWN if value is None else f"{value:,.{decimals}f}" for value in values)


def _energy_of(points: Sequence[Row], token_kind: str) -> tuple[str, ...]:
    """Return joules per token of the points whose tokens are of that kind."""
    return tuple(
        format_number(point["joules_per_token"]) if point["token_kind"] == token_kind else UNKNOWN for point in points
    )


def _each(points: Sequence[Row], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Return values of several blocks, which may be far apart, each with three significant digits of its own."""
    return tuple(format_number(None if point[key] is None else scale * point[key]) for point in points)


def _half_widths(points: Sequence[Row], key: str, *, scale: float = 1.0) -> tuple[str, ...]:
    """Return half the width of each 95 % interval: its two sides differ by less than the last digit shown."""
    bounds = ((point[f"{key}_low"], point[f"{key}_high"]) for point in points)
    return tuple(format_number(None if low is None else scale * (high - low) / 2, num_digits=2) for low, high in bounds)


def _changes(points: Sequence[Row], key: str) -> tuple[str, ...]:
    """Return changes from the default clock with their intervals, in per cent as the header says."""
    names = (f"{key}_change", f"{key}_change_low", f"{key}_change_high")
    return _aligned([_or_base(point, format_change_interval(*(point[name] for name in names))) for point in points])


def _aligned(cells: Sequence[str]) -> tuple[str, ...]:
    """Pad cells so that changes stand below changes and intervals below intervals."""
    width = max(len(cell.partition("±")[2]) for cell in cells)
    if width == 0:
        return tuple(cells)
    halves = [cell.partition("±") for cell in cells]
    return tuple(
        f"{change}{sign or ' '}{half:>{width}}" if sign else change + " " * (width + 2) for change, sign, half in halves
    )


def _or_base(point: Row, change: str) -> str:
    """Return "base" for the default clock, which the others are compared with; an unknown value stays unknown."""
    return "base" if point["is_default"] and change != UNKNOWN else change
