"""Importing the published table reference/rtx5090_clock_grid.csv, and reading it as a run."""

from pathlib import Path

import polars as pl
import pytest

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.study import study_trials
from runner.execution.driver.importing import import_published
from runner.results.run_directory import RunDirectoryError, RunStore, open_run

GRID = Path(__file__).parents[3] / "reference" / "rtx5090_clock_grid.csv"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("grid")
    with RunStore(directory) as store:
        import_published(GRID, store, "sweep import")
    return open_run(directory)


def study(store, limits=NO_LIMITS):
    return study_trials(complete_trials(store.read_trials(store.planned_trial_ids())), limits)


def recommended(store, task, limits=NO_LIMITS):
    return study(store, limits).recommendations.filter(task=task, goal="energy").row(0, named=True)


def joules_per_token(task):
    """Read the file without the product's code, and without the rows whose clock was not held."""
    grid = pl.read_csv(GRID).filter((pl.col("mem_clock_mhz") > 405) | (pl.col("sm_clock_mhz") < 765))
    return grid.with_columns(j=pl.col("mean_power_w") / pl.col(f"{task}_output_tokens_per_s"))


@pytest.mark.parametrize("task", ["narrative", "code"])
def test_the_recommended_point_is_within_2_percent_of_the_grids_least_energy(store, task):
    row = recommended(store, task)
    assert row["joules_per_token"] <= 1.02 * joules_per_token(task)["j"].min()
    assert (row["mem_clock_mhz_requested"], row["sm_clock_mhz_requested"]) == (7001, 1635)
    assert row["conclusion"] == "unproven"  # one line a point shows no spread
    assert "too few trials" in row["reason"]


@pytest.mark.parametrize(("task", "point"), [("narrative", (None, None)), ("code", (14001, 2602))])
def test_the_recommended_point_is_the_right_one_under_a_slowdown_of_10_percent(store, task, point):
    grid, rate = joules_per_token(task), f"{task}_output_tokens_per_s"
    fast = grid.filter(pl.col(rate) * 1.1 >= pl.col(rate).max()).sort("j").row(0, named=True)
    row = recommended(store, task, Limits(max_slowdown=0.1))
    assert (row["mem_clock_mhz_requested"], row["sm_clock_mhz_requested"]) == point
    assert (row["mem_clock_mhz"], row["sm_clock_mhz"]) == (fast["mem_clock_mhz"], fast["sm_clock_mhz"])


def test_rows_whose_lock_slipped_are_found(store):
    slipped = study(store).trials.filter(pl.col("verdicts").list.contains("clock_not_held"))
    assert sorted(slipped.select("mem_clock_mhz", "sm_clock_mhz").unique().rows()) == [(405.0, 765.0), (405.0, 885.0)]
    assert slipped.height == 4


def test_the_manifest_says_where_it_comes_from(store):
    manifest = store.read_manifest()
    assert manifest["imported"]["file"] == GRID.name
    assert manifest["imported"]["stands_for_default"] == ["SM 3090 MHz, memory 14001 MHz"]
    assert manifest["simulated"] is False
    assert store.planned_trial_ids() is None
    assert (store.directory / "trials.parquet").exists()


def test_repeats_in_a_file_show_a_spread(tmp_path):
    lines = [f"{clock},{rate * noise},{power}" for noise in (0.99, 1.0, 1.01)
             for clock, rate, power in (("", 100, 300), (1000, 95, 200))]  # fmt: skip
    (tmp_path / "grid.csv").write_text("\n".join(["sm_clock_mhz,output_tokens_per_s,mean_power_w", *lines]))
    with RunStore(tmp_path / "run") as store:
        import_published(tmp_path / "grid.csv", store, "")
    row = recommended(store, "imported")
    assert (row["conclusion"], row["sm_clock_mhz_requested"]) == ("saves", 1000)
    assert row["change"] == pytest.approx(200 / 95 / 3 - 1, abs=0.001)
    assert row["change_low"] < row["change"] < row["change_high"] < 0


def test_an_import_replaces_an_import_and_no_run(tmp_path):
    (tmp_path / "grid.csv").write_text("sm_clock_mhz,output_tokens_per_s,mean_power_w\n1000,80,160\n500,40,60\n")
    with RunStore(tmp_path / "run") as store:
        import_published(GRID, store, "")
        assert import_published(tmp_path / "grid.csv", store, "").height == store.read_trials().height == 2
        store.write_manifest({"sweep": {}, "options": {}})
        with pytest.raises(RunDirectoryError, match="holds a run that was measured: give another --out"):
            import_published(tmp_path / "grid.csv", store, "")
