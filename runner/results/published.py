"""Published grids: a small CSV form enters, rows of `tables.TRIALS` leave, which are analysed like measured ones.

docs/exchange.md, "A published grid", describes the form. Next: `execution/driver/importing.py`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from runner.results.exchange.imported_rows import POINT, RATE, make_trials
from runner.spec.load import LOAD_COLUMNS
from runner.spec.problems import did_you_mean

_NUMBERS = (
    *POINT, *LOAD_COLUMNS, RATE, "mean_power_w", "joules_per_output_token", "latency_s_p50", "latency_s_p95",
    "ttft_s_p50", "ttft_s_p95", "tpot_s_p50", "tpot_s_p95", "joules_per_request", "energy_uncertainty_j",
    "quality", "quality_stderr",
)  # fmt: skip
_HIGHER = "quality_higher_is_better"
_WORDS = ("model", "task", "gpu_name", "quality_metric", _HIGHER)
COLUMNS = (*_NUMBERS, *_WORDS)
_MAY_BE_ZERO = ("quality", "quality_stderr")
_WHOLE = ("sm_clock_mhz", "mem_clock_mhz", "concurrency")


class PublishedFileError(ValueError):
    """The file is not in the form. The message names the column or the line, its value and what is allowed."""


def read_published(path: Path) -> pl.DataFrame:
    """Read a published grid.

    Args:
        path: a CSV file with a line of column names. A column NAME_output_tokens_per_s is the throughput of task NAME.
            Several of them make as many trials of each line. A line whose clocks are empty is the GPU's default.
    Returns: [num_trials] rows of `tables.TRIALS`: status ok, no verdicts, energy_source "imported", no times and no
        requests. Where a block has no line at the default, its highest clocks take the place of the default. Their
        `*_requested` is null, and the clocks are in sm_clock_mhz and mem_clock_mhz.
    Raises: PublishedFileError. OSError: the file cannot be read.
    """
    table = _read_text(path)
    rates = _find_rates(path, table.columns)
    table = table.with_row_index("line", offset=2).filter(
        ~pl.all_horizontal(pl.col(table.columns).str.strip_chars().replace("", None).is_null())  # an empty line
    )
    lines = _read_values(path, pl.concat([_take_rate(table, rates, rate) for rate in rates]))
    _require_energy(path, lines)
    _require_different(path, lines)
    lines = lines.with_columns(
        pl.col("model").fill_null(path.stem),
        pl.col("task").fill_null("imported"),
        pl.col("gpu_name").fill_null(f"unknown GPU ({path.name})"),
        quality_higher_is_better=pl.col("quality_higher_is_better").fill_null("true") == "true",
    )
    return make_trials(lines)


def _read_text(path: Path) -> pl.DataFrame:
    """Return the cells as text, with column names stripped of spaces."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        table = pl.read_csv(text.encode(), infer_schema=False)
    except FileNotFoundError:
        raise PublishedFileError(f"{path}: no such file") from None
    except OSError as error:
        raise PublishedFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PublishedFileError(
            f"{path} is not text in UTF-8 (byte {error.start}): save it as CSV in that encoding"
        ) from None
    except pl.exceptions.NoDataError:
        raise PublishedFileError(f"{path} is empty") from None
    except pl.exceptions.PolarsError as error:
        raise PublishedFileError(f"{path} is not CSV: {_find_longest(text) or str(error).splitlines()[0]}") from None
    names = [name.strip() for name in next(csv.reader(text.splitlines()))]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise PublishedFileError(f"{path}: column {repeated[0]!r} stands twice: leave one of them out")
    if len(names) == 1 and (other := [mark for mark in ";\t" if mark in names[0]]):
        raise PublishedFileError(f"{path}: its columns are separated by {other[0]!r}: commas are needed")
    return table.rename(dict(zip(table.columns, names, strict=True)))


def _find_longest(text: str) -> str | None:
    """Return a message about the first line that has more cells than there are columns; None without one."""
    names, *lines = csv.reader(text.splitlines())
    longer = [number for number, cells in enumerate(lines, start=2) if len(cells) > len(names)]
    return f"line {longer[0]} has more cells than the {len(names)} that the first line names" if longer else None


def _find_rates(path: Path, columns: Sequence[str]) -> list[str]:
    """Return the columns that hold a throughput. Raises: PublishedFileError: another column is not known."""
    rates = [name for name in columns if name == RATE or name.endswith(f"_{RATE}")]
    for name in columns:
        if name not in rates and name not in COLUMNS:
            raise PublishedFileError(
                f"{path}: column {name!r} is not known: allowed are {', '.join(COLUMNS)} and NAME_{RATE}"
                f"{did_you_mean(name, COLUMNS)}"
            )
    if not rates:
        raise PublishedFileError(f"{path} has no column {RATE} (or NAME_{RATE} for a task NAME)")
    if not {"sm_clock_mhz", "mem_clock_mhz"} & set(columns):
        raise PublishedFileError(f"{path} has neither a column sm_clock_mhz nor mem_clock_mhz")
    if not {"mean_power_w", "joules_per_output_token"} & set(columns):
        raise PublishedFileError(f"{path} has neither a column mean_power_w nor joules_per_output_token")
    if len(rates) > 1 and (RATE in rates or "task" in columns or "joules_per_output_token" in columns):
        raise PublishedFileError(
            f"{path}: several columns NAME_{RATE} name the tasks themselves and share mean_power_w: "
            f"columns {RATE}, task and joules_per_output_token do not go with them"
        )
    return rates


def _take_rate(table: pl.DataFrame, rates: Sequence[str], rate: str) -> pl.DataFrame:
    """Return the lines for one of the throughputs, with every column of `COLUMNS`, as text."""
    lines = table.drop(other for other in rates if other != rate).rename({rate: RATE})
    if rate != RATE:
        lines = lines.with_columns(task=pl.lit(rate.removesuffix(f"_{RATE}")))
    return lines.select(
        "line", *(pl.col(name) if name in lines.columns else pl.lit(None, pl.String).alias(name) for name in COLUMNS)
    )


def _read_values(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """Turn text into numbers. An empty cell becomes null."""
    lines = lines.with_columns(pl.col(*COLUMNS).str.strip_chars().replace("", None))
    for name in _NUMBERS:
        number, may_be_zero = pl.col(name).cast(pl.Float64, strict=False), name in _MAY_BE_ZERO
        is_right = number.is_finite() & (number >= 0 if may_be_zero else number > 0)
        if name in _WHOLE:
            is_right &= number == number.round()
        kind = "a whole number" if name in _WHOLE else "a number"
        allowed = f"{kind} {'from 0 on' if may_be_zero else 'greater than 0'}, or nothing"
        _require(path, lines, name, is_right.fill_null(value=False), allowed)
    lines = lines.with_columns(pl.col(_HIGHER).str.to_lowercase())
    _require(path, lines, _HIGHER, pl.col(_HIGHER).is_in(["true", "false"]), "true or false, or nothing")
    return lines.with_columns(pl.col(*_NUMBERS).cast(pl.Float64))


def _require(path: Path, lines: pl.DataFrame, name: str, is_right: pl.Expr, allowed: str) -> None:
    wrong = lines.filter(pl.col(name).is_not_null() & ~is_right)
    if wrong.height:
        line, value = wrong["line"][0], wrong[name][0]
        raise PublishedFileError(f"{path}, line {line}: {name} = {value!r} is not allowed: give {allowed}")


def _require_energy(path: Path, lines: pl.DataFrame) -> None:
    has_energy = pl.col("mean_power_w").is_not_null() | pl.col("joules_per_output_token").is_not_null()
    for is_there, what in (
        (pl.col(RATE).is_not_null(), f"{RATE} is empty: a throughput is needed"),
        (has_energy, "mean_power_w and joules_per_output_token are empty: one of them is needed"),
    ):
        wrong = lines.filter(~is_there)
        if wrong.height:
            raise PublishedFileError(f"{path}, line {wrong['line'][0]}: {what}")
    if lines.is_empty():
        raise PublishedFileError(f"{path} has no line of numbers")


def _require_different(path: Path, lines: pl.DataFrame) -> None:
    """Refuse two equal lines. They are one line copied, and as repeats they would show no spread."""
    copies = lines.filter(pl.struct(COLUMNS).is_duplicated()).sort("line")
    if copies.height:
        first, second = copies["line"][:2]
        raise PublishedFileError(f"{path}: lines {first} and {second} are the same: leave one of them out")
