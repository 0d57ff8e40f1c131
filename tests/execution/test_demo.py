"""What a first sweep must show: the operating points of sweeps/demo.toml, measured within the study in small."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from runner.analysis.window.gpu_state import MAX_UNSEEN_S
from runner.physics.gpu_state import GpuState
from runner.spec.trial import Block, expand_trials
from tests.engines import ON_PACED_ENGINE
from tests.execution.small_study import BLOCKS, DEMO, PREFILL_TASK, SWEEP, SmallStudy
from tests.execution.sweep_process import at_work_s, longest_unseen_s
from tests.witness import BUSY_S, Witness

pytestmark = ON_PACED_ENGINE


@pytest.fixture(scope="module")
def folder(small_study: SmallStudy) -> Path:
    return small_study.folder


@pytest.fixture(scope="module")
def machine(small_study: SmallStudy) -> Witness:
    return small_study.machine


@pytest.fixture(scope="module")
def trials(folder: Path) -> pl.DataFrame:
    """The trials at the demo's concurrency: those of single prompts stand in the study alone."""
    (gpu,) = (folder / "gpus").glob("GPU-*")
    activity = GpuState(gpu).read_new_activity()
    rows = pl.read_parquet(folder / "run" / "trials.parquet")
    at_work = [at_work_s(activity, row) for row in rows.iter_rows(named=True)]
    rows = rows.with_columns(seconds_per_request=pl.Series(at_work) / pl.col("num_requests"))
    return rows.filter(pl.col("concurrency").is_in(DEMO.axes.concurrency))


@pytest.fixture
def sound(trials: pl.DataFrame, machine: Witness) -> pl.DataFrame:
    """The trials without a verdict. Each is measured twice, so only a busy machine leaves out more than a few."""
    is_sound = trials.group_by(pl.col("trial_id").str.head(16)).agg((pl.col("verdicts").list.len() == 0).any())
    if (~is_sound["verdicts"]).sum() > 0.1 * is_sound.height:
        found = trials.explode("verdicts").select("task", "duration_s", "pace_lost_s", "verdicts")
        machine.excuse(found)
    return trials.filter(pl.col("verdicts").list.len() == 0)


def test_the_run_holds_the_demos_operating_points() -> None:
    """The demo is not run as it stands: every point of it must be one of the study's, but for the number of prompts."""

    def list_points(blocks: list[Block]) -> set[tuple[object, ...]]:
        return {(b.model.id, b.task.name, b.load, trial.requested_point) for b in blocks for trial in b.trials}

    assert list_points(BLOCKS) >= list_points(expand_trials(DEMO))
    assert {(model.id, model.twin) for model in SWEEP.model} == {(model.id, model.twin) for model in DEMO.model}


@pytest.mark.usefixtures("sound")
def test_windows_carry_no_verdict_but_a_busy_machines(trials: pl.DataFrame) -> None:
    found = trials.filter(pl.col("verdicts").list.len() > 0).select("trial_id", "attempt", "verdicts")
    # Other programs on this machine may delay steps and requests, so that a few trials have these verdicts.
    late = {"pace_overrun", "concurrency_not_reached", "sentinel_drift"}
    assert set(found.explode("verdicts")["verdicts"]) <= late, found
    # A verdict that is found after the run, or that would come back, causes no second attempt.
    retried = pl.col("verdicts").list.set_difference(["sentinel_drift"]) == ["pace_overrun"]
    again = trials.filter(attempt=2)["trial_id"].str.strip_suffix("-2")
    assert set(again) == set(found.filter(retried, attempt=1)["trial_id"]), found


def test_clocks_settle_under_load_and_idle_power_is_their_own(
    trials: pl.DataFrame, machine: Witness, folder: Path
) -> None:
    locked = trials.filter(pl.col("sm_clock_mhz_requested").is_not_null())
    assert trials.filter(pl.col("sm_clock_mhz_requested").is_null())["settle_s"].null_count() == (
        trials.height - locked.height
    )
    assert locked["settle_s"].null_count() == 0
    assert locked["settle_s"].median() < 1.0  # type: ignore[operator]  # a busy machine may read late
    # The share of the window below the clock is null only where a busy machine left it unread for more than a second.
    unread = locked.filter(pl.col("sm_clock_below_fraction").is_null())
    for row in unread.iter_rows(named=True):
        assert longest_unseen_s(folder / "run", row, "sm_clock_mhz") > MAX_UNSEEN_S, row
        assert machine.lost_s > BUSY_S, row
    assert set(locked["sm_clock_below_fraction"].drop_nulls()) == {0.0}
    idle = trials.group_by("sm_clock_mhz_requested").agg(pl.col("idle_power_w").mean()).sort("sm_clock_mhz_requested")
    assert idle["idle_power_w"].null_count() == 0
    assert idle["idle_power_w"][0] == idle["idle_power_w"].max()  # null, which is the default clock, sorts first


def test_counter_and_trace_agree(trials: pl.DataFrame) -> None:
    disagreement = (trials["counter_interval_trace_j"] / trials["counter_interval_j"] - 1).abs()
    assert disagreement.max() < 0.01, disagreement  # type: ignore[operator]


def test_quality_is_above_chance(trials: pl.DataFrame) -> None:
    above = trials.select(pl.col("quality") - 1.96 * pl.col("quality_stderr") - pl.col("quality_chance"))
    assert above.to_series().min() > 0, trials.select("model", "task", "quality", "quality_stderr")  # type: ignore[operator]


def test_duration_never_falls_as_the_clock_falls(trials: pl.DataFrame) -> None:
    for _, block in trials.group_by("block_id"):
        # The default clock is at least as high as any clock that was set.
        points = (
            block.group_by(clock=pl.col("sm_clock_mhz_requested").fill_null(9999))
            .agg(pl.col("seconds_per_request").median())
            .sort("clock", descending=True)["seconds_per_request"]
            .to_list()
        )
        for faster, slower in pairwise(points):
            assert slower >= 0.99 * faster, block.select("task", "sm_clock_mhz_requested", "seconds_per_request")


@pytest.mark.usefixtures("sound")
def test_prefill_has_an_interior_energy_minimum_and_decodes_lies_no_higher(trials: pl.DataFrame) -> None:
    def best_clock(task: str, model: str) -> tuple[int, list[int]]:
        points = (
            trials.filter(pl.col("task") == task, pl.col("model").str.ends_with(model))
            .group_by(clock=pl.col("sm_clock_mhz_requested").fill_null(9999))
            # The least of its trials: an engine that loses its pace adds a pause with its joules.
            .agg(pl.col("joules_per_request").min())
            .sort("joules_per_request")
        )
        return points["clock"][0], sorted(points["clock"])

    best, clocks = best_clock(PREFILL_TASK, "large")
    assert len(clocks) >= 6
    assert clocks[0] < best < clocks[-1]
    for task in ("tiny_qa", "tiny_facts"):
        assert best_clock(task, "large")[0] <= best
