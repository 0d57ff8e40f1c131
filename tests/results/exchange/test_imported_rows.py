import polars as pl

from runner.results.exchange.imported_rows import make_trials
from runner.results.tables import TRIALS


def lines(*clocks: float | None) -> pl.DataFrame:
    columns = {"model": "m", "task": "t", "gpu_name": "g", "output_tokens_per_s": 100.0, "duration_s": 7.0}
    rows = [columns | {"line": i, "sm_clock_mhz": clock} for i, clock in enumerate(clocks)]
    schema = {"sm_clock_mhz": pl.Float64, "mem_clock_mhz": pl.Float64, "power_limit_w": pl.Float64}
    schema |= {"concurrency": pl.Float64, "mean_power_w": pl.Float64, "joules_per_output_token": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in schema.items() if name != "sm_clock_mhz"
    )


def test_the_default_is_the_line_that_asks_for_nothing_or_the_highest_clock() -> None:
    assert make_trials(lines(None, 1200))["sm_clock_mhz_requested"].to_list() == [None, 1200]
    assert make_trials(lines(1980, 1200))["sm_clock_mhz_requested"].to_list() == [None, 1200]


def test_energies_may_be_unknown_and_other_columns_are_kept() -> None:
    trials = make_trials(lines(None))
    assert dict(trials.schema) == TRIALS
    row = trials.row(0, named=True)
    assert (row["joules_per_output_token"], row["mean_power_w"], row["duration_s"]) == (None, None, 7.0)
