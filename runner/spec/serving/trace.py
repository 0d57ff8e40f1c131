"""Recorded traffic: when requests arrived, and how long their prompts and outputs were.

A CSV or Parquet file enters, a `Trace` leaves, or a ValueError that names the file, the row and what is allowed. Next:
`trial.py` makes a load of it, and `tasks/` its requests.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_NAMES = {
    "arrival_s": ("arrival_s", "timestamp", "arrival_time", "arrived_at"),
    "num_prompt_tokens": ("num_prompt_tokens", "request tokens", "contexttokens", "input_length", "prompt_tokens"),
    "num_output_tokens": ("num_output_tokens", "response tokens", "generatedtokens", "output_length", "output_tokens"),
}
"""Our names, and those of published traces: BurstGPT, Azure's and Mooncake's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Requests of a trace, by arrival."""

    arrival_s: tuple[float, ...]
    """From the start of the slice, ascending."""
    num_prompt_tokens: tuple[int, ...]
    num_output_tokens: tuple[int, ...]
    duration_s: float
    """Of the slice."""
    digest: str
    """Of what it holds: trial ids depend on it."""

    @property
    def mean_rate_per_s(self) -> float:
        """Requests a second, on average."""
        return len(self.arrival_s) / self.duration_s


@lru_cache
def read_trace(path: str, start_s: float = 0.0, end_s: float | None = None, time_scale: float = 1.0) -> Trace:
    """Read a slice of a trace.

    Args:
        path: a CSV or Parquet file with columns for arrival (seconds, or a date and time), prompt and output tokens.
        start_s, end_s: the slice, from the first arrival of the file; None for its end.
        time_scale: how much longer the slice takes than it was recorded. 0.5 doubles the rate.
    Raises: ValueError: the file is missing or of another kind, or a row of it is not allowed.
    """
    frame = _read_frame(Path(path))
    columns = {name: frame[_find_column(name, frame.columns, path)] for name in _NAMES}
    arrival_s = _read_seconds(columns["arrival_s"], path)
    lengths = {name: _read_lengths(columns[name], name, path) for name in ("num_prompt_tokens", "num_output_tokens")}
    first_s, last_s = arrival_s[0], arrival_s[-1]
    until_s = last_s - first_s if end_s is None else end_s
    chosen = [place for place, at_s in enumerate(arrival_s) if start_s <= at_s - first_s <= until_s]
    if len(chosen) < 2 or until_s <= start_s:
        raise ValueError(
            f'"{path}" has {len(chosen)} requests from {start_s:g} s to {until_s:g} s: it lasts {last_s - first_s:g} s'
        )
    arrivals = tuple((arrival_s[place] - first_s - start_s) * time_scale for place in chosen)
    prompts, outputs = (tuple(values[place] for place in chosen) for values in lengths.values())
    duration_s = (until_s - start_s) * time_scale
    digest = sha256(repr((arrivals, prompts, outputs, duration_s)).encode()).hexdigest()[:16]
    return Trace(
        arrival_s=arrivals, num_prompt_tokens=prompts, num_output_tokens=outputs, duration_s=duration_s, digest=digest
    )


def _read_frame(path: Path) -> "pl.DataFrame":
    import polars as pl  # takes a tenth of a second, and few sweeps have a trace

    if not path.is_file():
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*")], n=1)
        raise ValueError(f'"{path}" is no file' + (f'; did you mean "{path.parent / near[0]}"?' if near else ""))
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, try_parse_dates=True)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f'"{path}" is neither CSV nor Parquet: {str(error).splitlines()[0]}') from None
    if frame.height < 2:
        raise ValueError(f'"{path}" has {frame.height} rows: a trace needs two requests at least')
    return frame


def _find_column(name: str, columns: Sequence[str], path: str) -> str:
    found = next((column for column in columns if column.strip().lower() in _NAMES[name]), None)
    if found is None:
        raise ValueError(f'"{path}" has no column {name}: its columns are {", ".join(columns)}')
    return found


def _read_seconds(column: "pl.Series", path: str) -> list[float]:
    """Return arrivals in s; a date and time counts from the first row."""
    _require_no_hole(column, path)
    if column.dtype.is_temporal():
        seconds = [float(us) * 1e-6 for us in (column - column[0]).dt.total_microseconds()]
    elif column.dtype.is_numeric():
        seconds = [float(value) for value in column]
    else:
        raise ValueError(f'"{path}": {column.name} = "{column[0]}" is neither a number of seconds nor a date and time')
    for row, (earlier, later) in enumerate(pairwise(seconds), start=2):
        if later < earlier:
            raise ValueError(
                f'"{path}", row {row}: {column.name} goes back from {earlier:g} to {later:g}: sort the rows'
            )
    return seconds


def _read_lengths(column: "pl.Series", name: str, path: str) -> list[int]:
    _require_no_hole(column, path)
    if not column.dtype.is_integer():
        raise ValueError(f'"{path}": {column.name} = {column[0]!r} is not a whole number of tokens')
    if (wrong := column.lt(1).arg_true()).len():
        row = int(wrong[0])
        raise ValueError(
            f'"{path}", row {row + 1}: {column.name} = {column[row]} is out of range: {name} is at least 1'
        )
    return [int(value) for value in column]


def _require_no_hole(column: "pl.Series", path: str) -> None:
    if column.null_count():
        row = int(column.is_null().arg_true()[0])
        raise ValueError(f'"{path}", row {row + 1}: {column.name} is empty: fill it in or remove the row')
