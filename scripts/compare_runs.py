"""Do two run directories hold the same results? Every table column by column, every text line by line.

    python scripts/compare_runs.py OLD NEW [--tolerance 1e-5]

Two run directories enter, of any versions of this program: the files are read as they lie, nothing of `runner` is imported.
A table of what was compared leaves, with every mismatch; exit code 0 if there is none, else 1.

Strings and whole numbers must be equal, other numbers within the tolerance, relative to the larger one. Columns that NEW has
more are additions; columns and rows that it lacks are errors. Two runs of one version start at another instant, by which
power samples, which the driver stamps in whole µs, fall up to 1 µs to another side of a change of power. What follows from
that is in `RULES`. `prove_unchanged.py` starts runs at whole µs, so that two of them are equal to the last bit.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from compare_texts import (
    MANIFEST_KEYS_OF_THE_RUN,
    Comparison,
    compare_events,
    compare_json,
    compare_pages,
    compare_texts,
    read_text,
)

TOLERANCE = 1e-5
MAX_MISMATCHES = 6
"""That are printed of each column, and columns whose differences are printed of each table: the worst ones."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a column is compared that does not go by its own size alone."""

    reason: str
    factor: float = 1.0
    """The tolerance is so many times as large."""
    scale: float | str = 0.0
    """The least size that a difference is relative to: a number, or another column's value in the same row."""


_TIME = Rule(scale=1e9, reason="ns since a start: relative to a second, since an instant has no size of its own")
RULES = {
    "power_w": Rule(factor=100, reason="a sample is a mean of 20 ms: 1 µs of another power is 1e-4 of it and more"),
    "max_power_gap_s": Rule(scale=1.0, reason="a distance of two stamps in whole µs, so relative to a second"),
    "settle_s": Rule(scale=1.0, reason="an instant after another one, so relative to a second"),
    "unattributed_energy_j": Rule(scale="energy_j", reason="what is left of it, as a rule nearly nothing"),
    "energy_uncertainty_j": Rule(scale="energy_j", reason="what steps of single samples add up to"),
    "phase_residual_fraction": Rule(scale=1.0, reason="a share of energy_j, as a rule nearly nothing"),
}
"""By column, in every table. At a tolerance of 0 they change nothing."""

VARYING = {"host": "which machine ran it is no result"}
"""Columns whose differences are told and are no mismatch."""


def compare_runs(old: Path, new: Path, tolerance: float = TOLERANCE) -> list[Comparison]:
    """Return what became of each table and text that the old run directory holds."""
    trials = {run: _read_trials(run) for run in (old, new)}
    results = [_compare_frames("trials", *trials.values(), tolerance, key="trial_id")]
    common = sorted(set(trials[old]["trial_id"]) & set(trials[new]["trial_id"]))
    for table in ("requests", "power"):
        frames = [_read_each(run / table, common, trials[run]) for run in (old, new)]
        results.append(_compare_frames(table, *frames, tolerance))
    tables = [path.relative_to(old) for path in sorted(old.glob("tables/*.csv"))]
    for file in [Path("samples.parquet"), *tables]:
        if (old / file).exists():
            results.append(_compare_files(file, old / file, new / file, tolerance))
    return [*results, *_compare_documents(old, new, tolerance)]


def _compare_documents(old: Path, new: Path, tolerance: float) -> Iterator[Comparison]:
    """Compare what is no table; report.txt and report.json are `sweep report`'s output, where somebody has kept it."""
    for name in ("manifest.json", "events.jsonl", "report.html", "report.txt", "report.json"):
        if not (old / name).exists():
            continue
        if not (new / name).exists():
            yield Comparison(name=name, mismatches=["is missing"])
        elif name == "events.jsonl":
            yield compare_events(old / name, new / name, tolerance)
        elif name == "report.html":
            yield from compare_pages(old / name, new / name, tolerance)
        elif name == "report.txt":
            yield compare_texts(name, read_text(old / name, old), read_text(new / name, new), tolerance)
        else:
            values = [json.loads((run / name).read_text(encoding="utf-8")) for run in (old, new)]
            varying = MANIFEST_KEYS_OF_THE_RUN if name == "manifest.json" else ()
            yield compare_json(name, values[0], values[1], tolerance, varying)


# reading -------------------------------------------------------------------------------------------------------------


def _read_trials(run: Path) -> pl.DataFrame:
    """Return trials.parquet with its starts as ns since that of the first trial on the same board.

    Where a run was gone on with, that is the first one of the same block: the pause in between is no result.
    """
    trials = pl.read_parquet(run / "trials.parquet")
    manifest: Mapping[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    origin = "block_id" if len(manifest.get("runs", [])) > 1 else pl.col("gpu_uuids").list.join(",")
    absolute = pl.col("start_ns").alias("absolute_start_ns")
    return trials.with_columns(absolute, pl.col("start_ns") - pl.col("start_ns").min().over(origin)).sort("trial_id")


def _read_each(folder: Path, trial_ids: list[str], trials: pl.DataFrame) -> pl.DataFrame:
    """Return one table of several trials, its times as ns since its trial's start.

    Rows of different kinds (a power sample, a reading of the clocks) come one kind after another: which of two that lie within
    1 µs is the first depends on the instant at which a run starts.
    """
    starts = dict(trials.select("trial_id", "absolute_start_ns").iter_rows())
    frames = []
    for trial_id in trial_ids:
        path = folder / f"{trial_id}.parquet"
        if not path.exists():
            continue
        frame = pl.read_parquet(path)
        times = [name for name, kind in frame.schema.items() if name.endswith("_ns") and kind.is_integer()]
        frames.append(frame.with_columns(pl.lit(trial_id).alias("trial_id"), pl.col(times) - starts[trial_id]))
    if not frames:
        return pl.DataFrame({"trial_id": []}, schema={"trial_id": pl.String})
    whole = pl.concat(frames, how="vertical")
    kinds = [pl.col(name).is_null() for name in ("power_w", "energy_counter_total_j") if name in whole.columns]
    return whole.sort("trial_id", *kinds, maintain_order=True)


def _compare_files(file: Path, old: Path, new: Path, tolerance: float) -> Comparison:
    name = str(file.with_suffix(""))
    if not new.exists():
        return Comparison(name=name, mismatches=["is missing"])
    read = pl.read_parquet if file.suffix == ".parquet" else pl.read_csv
    return _compare_frames(name, read(old), read(new), tolerance)


# comparing -----------------------------------------------------------------------------------------------------------


def _compare_frames(
    name: str, old: pl.DataFrame, new: pl.DataFrame, tolerance: float, key: str | None = None
) -> Comparison:
    """Compare two tables row by row, or by a key where there is one."""
    result = Comparison(name=name, size_old=old.height, size_new=new.height)
    old, new = (frame.drop("absolute_start_ns", strict=False) for frame in (old, new))
    if key is not None:
        for frame, other, word in ((old, new, "lacks"), (new, old, "has more")):
            if only := sorted(set(frame[key]) - set(other[key])):
                result.mismatches.append(f"NEW {word} {len(only)} of {key}: {', '.join(only[:MAX_MISMATCHES])}")
        old, new = old.filter(pl.col(key).is_in(new[key].to_list())), new.filter(pl.col(key).is_in(old[key].to_list()))
    if added := [column for column in new.columns if column not in old.columns]:
        result.notes.append(f"columns added: {', '.join(added)}")
    if old.height != new.height:
        result.mismatches.append(f"{old.height} rows → {new.height}; their columns are not compared")
        return result
    labels = old[key] if key else old["trial_id"] if "trial_id" in old.columns else None
    for column in old.columns:
        if column not in new.columns:
            result.mismatches.append(f"column {column} is missing")
            continue
        result.num_columns += 1
        _compare_columns(column, old, new, tolerance, result, labels)
    return result


def _compare_columns(
    column: str, old: pl.DataFrame, new: pl.DataFrame, tolerance: float, result: Comparison, labels: pl.Series | None
) -> None:
    a, b = old[column], new[column]
    if a.dtype != b.dtype:
        result.mismatches.append(f"{column}: {a.dtype} → {b.dtype}")
        return
    is_time = column.endswith("_ns") and a.dtype.is_integer()
    if a.dtype.is_float() or is_time:
        rule = RULES.get(column, _TIME if is_time else Rule(reason=""))
        difference = _differences(a, b, old[rule.scale] if isinstance(rule.scale, str) else rule.scale)
        if (worst := difference.max()) is not None and isinstance(worst, float) and worst > 0:
            result.see(column, worst)
        wrong = (difference > tolerance * rule.factor).fill_null(value=False)
    elif isinstance(a.dtype, pl.List):
        wrong = pl.Series([x != y for x, y in zip(a.to_list(), b.to_list(), strict=True)], dtype=pl.Boolean)
    else:
        wrong = a.ne_missing(b)
    if not wrong.any():
        return
    if column in VARYING:
        result.notes.append(f"{column} varies: {VARYING[column]}")
        return
    where = wrong.arg_true().to_list()
    shown = [f"{labels[i] if labels is not None else f'row {i}'}: {a[i]} → {b[i]}" for i in where[:MAX_MISMATCHES]]
    result.mismatches.append(f"{column}: {len(where)} of {len(a)} differ; " + "; ".join(shown))


def _differences(a: pl.Series, b: pl.Series, scale: pl.Series | float) -> pl.Series:
    """Return the relative differences of two columns; infinite where only one is known, or only one is a number."""
    both = pl.DataFrame({"a": a.cast(pl.Float64), "b": b.cast(pl.Float64)}).with_columns(
        (scale.cast(pl.Float64).abs() if isinstance(scale, pl.Series) else pl.lit(float(scale))).alias("scale")
    )
    size = pl.max_horizontal(pl.col("a").abs(), pl.col("b").abs(), pl.col("scale"))
    same = pl.col("a").eq_missing(pl.col("b"))  # two nulls, or two NaN, are the same
    distance = (pl.col("a") - pl.col("b")).abs() / size
    unlike = distance.is_null() | distance.is_nan()
    return both.select(pl.when(same).then(0.0).when(unlike).then(float("inf")).otherwise(distance).alias("d"))["d"]


# telling -------------------------------------------------------------------------------------------------------------


def print_comparisons(results: list[Comparison]) -> None:
    """Print a line for each table, then what differs."""
    print(f"{'table':<22}{'rows old / new':>21}{'columns':>9}  largest relative differences")
    for result in results:
        worst = sorted(result.worst.items(), key=lambda item: -item[1])
        told = ", ".join(f"{column} {value:.1e}" for column, value in worst[:MAX_MISMATCHES])
        told += f" and {len(worst) - MAX_MISMATCHES} columns less" if len(worst) > MAX_MISMATCHES else ""
        sizes = f"{result.size_old:,} / {result.size_new:,}"
        print(f"{result.name:<22}{sizes:>21}{result.num_columns or '':>9}  {told or 'none'}")
    for result in results:
        for note in result.notes:
            print(f"note: {result.name}: {note}")
    for result in results:
        for mismatch in result.mismatches:
            print(f"MISMATCH {result.name}: {mismatch}")


def main() -> int:
    """Compare two run directories and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"relative; default {TOLERANCE:g}")
    arguments = parser.parse_args()
    results = compare_runs(arguments.old, arguments.new, arguments.tolerance)
    print_comparisons(results)
    num_mismatches = sum(len(result.mismatches) for result in results)
    print(f"{num_mismatches} mismatches at a tolerance of {arguments.tolerance:g}" if num_mismatches else "equal")
    return 1 if num_mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
