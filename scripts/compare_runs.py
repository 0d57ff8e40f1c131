"""Do two run directories hold the same results? Every table column by column, every text line by line.

    python scripts/compare_runs.py OLD NEW [--tolerance 1e-5] [--reworded]

Two run directories enter, of any versions of this program: the files are read as they lie, nothing of `runner` is
imported. A table of what was compared leaves, with every mismatch; exit code 0 if there is none, else 1.

Strings and whole numbers must be equal, other numbers within the tolerance, relative to the larger one. Columns that
NEW has more are additions; columns and rows that it lacks are errors. Absolute times are taken since the start of their
trial, starts of trials since the first one on their GPU. What else varies between two runs of one version, and why:
`run_difference.py`. With --reworded, sentences may have other words around the same numbers, and are listed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from compare_texts import compare_events, compare_json, compare_pages, compare_texts, read_text
from run_difference import VARYING, VARYING_IN_MANIFEST, Allowed, Comparison, find_rule, is_message

MAX_SHOWN = 6
"""Rows of a column that differ, and columns of a table with their differences."""
MAX_MISMATCHES = 25
"""Of each table; the rest is counted."""


def compare_runs(old: Path, new: Path, allowed: Allowed) -> list[Comparison]:
    """Return what became of each table and text that the old run directory holds."""
    trials = {run: _read_trials(run) for run in (old, new)}
    results = [_compare_frames("trials", trials[old], trials[new], allowed, key="trial_id")]
    common = sorted(set(trials[old]["trial_id"]) & set(trials[new]["trial_id"]))
    for table in ("requests", "power"):
        before, after = (_read_each(run / table, common, trials[run]) for run in (old, new))
        if table == "power" and allowed.rounds_apart:
            before, after = _trim(before, after, allowed), _trim(after, before, allowed)
        results.append(_compare_frames(table, before, after, allowed))
    tables = [path.relative_to(old) for path in sorted(old.glob("tables/*.csv"))]
    for file in [Path("samples.parquet"), *tables]:
        if (old / file).exists():
            results.append(_compare_files(file, old / file, new / file, allowed))
    return [*results, *_compare_documents(old, new, allowed)]


def _compare_documents(old: Path, new: Path, allowed: Allowed) -> Iterator[Comparison]:
    """Compare what is no table; report.txt and report.json are `sweep report`'s output, where somebody has kept it."""
    for name in ("manifest.json", "events.jsonl", "report.html", "report.txt", "report.json"):
        if not (old / name).exists():
            continue
        if not (new / name).exists():
            yield Comparison(name=name, mismatches=["is missing"])
        elif name == "events.jsonl":
            yield from compare_events(old / name, new / name, allowed)
        elif name == "report.html":
            yield from compare_pages(old / name, new / name, allowed)
        elif name == "report.txt":
            yield compare_texts(name, read_text(old / name, old), read_text(new / name, new), allowed)
        else:
            before, after = (json.loads((run / name).read_text(encoding="utf-8")) for run in (old, new))
            varying = VARYING_IN_MANIFEST if name == "manifest.json" else ()
            yield compare_json(name, before, after, allowed, varying=varying)


# reading -------------------------------------------------------------------------------------------------------------


def _read_trials(run: Path) -> pl.DataFrame:
    """Return trials.parquet with its starts as ns since that of the first trial on the same GPU.

    Where a run was gone on with, that is the first one of the same block: the pause in between is no result.
    """
    trials = pl.read_parquet(run / "trials.parquet")
    manifest: Mapping[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    origin = pl.col("block_id") if len(manifest.get("runs", [])) > 1 else pl.col("gpu_uuids").list.join(",")
    absolute = pl.col("start_ns").alias("absolute_start_ns")
    return trials.with_columns(absolute, pl.col("start_ns") - pl.col("start_ns").min().over(origin)).sort("trial_id")


def _read_each(folder: Path, trial_ids: Sequence[str], trials: pl.DataFrame) -> pl.DataFrame:
    """Return one table of several trials, its times as ns since its trial's start.

    Rows of different kinds (a power sample, a reading of the clocks) come one kind after another: which of two that lie
    within 1 µs is the first depends on the instant at which a run starts.
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
        return pl.DataFrame(schema={"trial_id": pl.String()})
    whole = pl.concat(frames, how="vertical")
    kinds = _kinds(whole) if folder.name == "power" else []
    return whole.sort("trial_id", *kinds, maintain_order=True)


def _kinds(power: pl.DataFrame) -> list[pl.Expr]:
    """What tells the kinds of rows of a trace apart: a power sample, a reading of the counter, one of the clocks."""
    return [pl.col(name).is_null().alias(f"no_{name}") for name in ("power_w", "energy_counter_total_j")]


def _trim(power: pl.DataFrame, other: pl.DataFrame, allowed: Allowed) -> pl.DataFrame:
    """Leave out a row at either end of a trial's trace that the other run lacks, where it is one alone.

    A trace is kept from a set time before its window on: by 1 µs a row lies in it or does not.
    """
    keys = ["trial_id", *(kind.meta.output_name() for kind in _kinds(power))]
    slack_ns = round(allowed.tolerance * 1e9)
    time = pl.col("time_ns")
    spans = other.with_columns(_kinds(other)).group_by(keys).agg(time.min().alias("first"), time.max().alias("last"))
    held = power.with_columns(_kinds(power)).join(spans, on=keys, how="left", maintain_order="left")
    outside = (time < pl.col("first") - slack_ns) | (time > pl.col("last") + slack_ns)
    is_alone = outside.sum().over("trial_id") == 1
    return held.filter(~(outside & is_alone).fill_null(value=False)).select(power.columns)


def _compare_files(file: Path, old: Path, new: Path, allowed: Allowed) -> Comparison:
    name = str(file.with_suffix(""))
    if not new.exists():
        return Comparison(name=name, mismatches=["is missing"])
    read = pl.read_parquet if file.suffix == ".parquet" else pl.read_csv
    return _compare_frames(name, read(old), read(new), allowed)


# comparing -----------------------------------------------------------------------------------------------------------


def _compare_frames(
    name: str, old: pl.DataFrame, new: pl.DataFrame, allowed: Allowed, *, key: str | None = None
) -> Comparison:
    """Compare two tables row by row; where there is a key, those rows that both have."""
    result = Comparison(name=name, size_old=old.height, size_new=new.height)
    old, new = (frame.drop("absolute_start_ns", strict=False) for frame in (old, new))
    if key is not None:
        for frame, other, word in ((old, new, "lacks"), (new, old, "has more")):
            if only := sorted(set(frame[key]) - set(other[key])):
                result.mismatches.append(f"NEW {word}: {len(only)} of {key}: {', '.join(only[:MAX_SHOWN])}")
        old, new = old.filter(pl.col(key).is_in(new[key].to_list())), new.filter(pl.col(key).is_in(old[key].to_list()))
    if added := [column for column in new.columns if column not in old.columns]:
        result.notes.append(f"columns added: {', '.join(added)}")
    if old.height != new.height:
        result.mismatches.append(f"{old.height} rows → {new.height}{_name_uneven(old, new)}: columns are not compared")
        return result
    for column in old.columns:
        if column in new.columns:
            result.num_columns += 1
            _compare_columns(column, old, new, result, allowed)
        else:
            result.mismatches.append(f"column {column} is missing")
    return result


def _name_uneven(old: pl.DataFrame, new: pl.DataFrame) -> str:
    """Return the trials that have more rows or fewer than before."""
    if "trial_id" not in old.columns:
        return ""
    before, after = (Counter(frame["trial_id"]) for frame in (old, new))
    uneven = [f"{i} {before[i]} → {after[i]}" for i in sorted(before | after) if before[i] != after[i]]
    return f" ({'; '.join(uneven[:MAX_SHOWN])})"


def _compare_columns(column: str, old: pl.DataFrame, new: pl.DataFrame, result: Comparison, allowed: Allowed) -> None:
    a, b = old[column], new[column]
    if a.dtype != b.dtype:
        result.mismatches.append(f"{column}: {a.dtype} → {b.dtype}")
        return
    if a.dtype.is_float() or column.endswith("_ns"):
        rule = find_rule(result.name, column)
        difference = _differences(a, b, old[rule.scale] if isinstance(rule.scale, str) else rule.scale)
        if isinstance(worst := difference.max(), float) and worst > 0:
            result.see(column, worst)
        wrong = (difference > allowed.tolerance * rule.factor).arg_true().to_list()
    elif isinstance(a.dtype, pl.List):
        wrong = [i for i, (x, y) in enumerate(zip(a.to_list(), b.to_list(), strict=True)) if x != y]
    else:
        wrong = a.ne_missing(b).arg_true().to_list()
    if is_message(column):
        wrong = [i for i in wrong if a[i] is None or b[i] is None or not result.accepts(a[i], b[i], allowed)]
    if not wrong:
        return
    if column in VARYING:
        result.notes.append(f"{column} varies: {VARYING[column]}")
        return
    labels = old["trial_id"] if "trial_id" in old.columns else pl.Series([f"row {i}" for i in range(old.height)])
    shown = "; ".join(f"{labels[i]}: {_short(a[i])} → {_short(b[i])}" for i in wrong[:MAX_SHOWN])
    result.mismatches.append(f"{column}: {len(wrong)} of {old.height} differ: {shown}")


def _short(value: object) -> str:
    return str(value.to_list() if isinstance(value, pl.Series) else value)[:120]


def _differences(a: pl.Series, b: pl.Series, scale: pl.Series | float) -> pl.Series:
    """Return the relative differences of two columns; infinite where only one is known, or only one is a number."""
    least = scale.cast(pl.Float64).abs() if isinstance(scale, pl.Series) else pl.lit(float(scale))
    # Whole numbers are subtracted as such: as floats, ns would lose their last digits.
    both = pl.DataFrame({"a": a, "b": b}).with_columns(least.alias("least"))
    size = pl.max_horizontal(pl.col("a").abs().cast(pl.Float64), pl.col("b").abs().cast(pl.Float64), pl.col("least"))
    same = pl.col("a").eq_missing(pl.col("b"))  # two nulls, or two NaN, are the same
    distance = (pl.col("a") - pl.col("b")).abs().cast(pl.Float64) / size
    unlike = distance.is_null() | distance.is_nan()
    return both.select(pl.when(same).then(0.0).when(unlike).then(float("inf")).otherwise(distance).alias("d"))["d"]


# telling -------------------------------------------------------------------------------------------------------------


def print_comparisons(results: Sequence[Comparison]) -> None:
    """Print a line for each table, then what differs."""
    print(f"{'table':<23}{'rows old / new':>21}{'columns':>9}  largest relative differences")
    for result in results:
        worst = sorted(result.worst.items(), key=lambda item: -item[1])
        told = ", ".join(f"{column} {value:.1e}" for column, value in worst[:MAX_SHOWN])
        told += f", less in {len(worst) - MAX_SHOWN} more columns" if len(worst) > MAX_SHOWN else ""
        sizes = f"{result.size_old:,} / {result.size_new:,}"
        print(f"{result.name:<23}{sizes:>21}{result.num_columns or '':>9}  {told or 'none'}")
    for result in results:
        for note in result.notes:
            print(f"note: {result.name}: {note}")
    for result in results:
        for (before, after), number in Counter(result.rewordings).most_common():
            print(f"reworded: {result.name}: {number} ×\n- {before}\n+ {after}")
    for result in results:
        for mismatch in result.mismatches[:MAX_MISMATCHES]:
            print(f"MISMATCH {result.name}: {mismatch}")
        if len(result.mismatches) > MAX_MISMATCHES:
            print(f"MISMATCH {result.name}: and {len(result.mismatches) - MAX_MISMATCHES} more")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=Allowed().tolerance, help="relative; default %(default)g")
    parser.add_argument(
        "--reworded", action="store_true", help="sentences may have other words around the same numbers"
    )
    arguments = parser.parse_args()
    allowed = Allowed(tolerance=arguments.tolerance, reworded=arguments.reworded)
    results = compare_runs(arguments.old, arguments.new, allowed)
    print_comparisons(results)
    num_mismatches = sum(len(result.mismatches) for result in results)
    print(f"{num_mismatches} mismatches at a tolerance of {allowed.tolerance:g}" if num_mismatches else "equal")
    return 1 if num_mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
