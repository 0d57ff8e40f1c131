"""sweeps/demo.toml as `make sweep` runs it: the results that a first sweep must have."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from runner.analysis.window.gpu_state import MAX_UNSEEN_S
from runner.physics.gpu_state import GpuState
from runner.spec.sweep import load_sweep
from runner.spec.trial import expand_trials
from tests.engines import ON_PACED_ENGINE
from tests.execution.sweep_process import SweepProcess, at_work_s, longest_unseen_s, read_manifest
from tests.witness import BUSY_S, Witness

pytestmark = ON_PACED_ENGINE

ROOT = Path(__file__).parents[2]
PREFILL_TASK = "tiny_commonsense"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def machine(folder: Path) -> Witness:
    """Run the demo, and return the witness of how busy the machine was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the demo's models are named from there
        run = SweepProcess(ROOT / "sweeps" / "demo.toml", folder / "run", folder, engine="vllm")
    try:
        with Witness() as witness:
            assert run.wait(1700) == 0, run.output
    finally:
        run.end()
    print(run.output[-6000:], f"\nlost by who only sleeps: {witness.lost_s:.1f} s")
    return witness


@pytest.fixture(scope="module")
def trials(machine: Witness, folder: Path) -> pl.DataFrame:
    assert read_manifest(folder / "run")["simulated"]
    (gpu,) = (folder / "gpus").glob("GPU-*")
    activity = GpuState(gpu).read_new_activity()
    rows = pl.read_parquet(folder / "run" / "trials.parquet")
    at_work = [at_work_s(activity, row) for row in rows.iter_rows(named=True)]
    return rows.with_columns(seconds_per_request=pl.Series(at_work) / pl.col("num_requests"))


@pytest.fixture
def sound(trials: pl.DataFrame, machine: Witness) -> pl.DataFrame:
    """The trials without a verdict. Each is measured twice, so only a busy machine leaves out more than a few."""
    is_sound = trials.group_by(pl.col("trial_id").str.head(16)).agg((pl.col("verdicts").list.len() == 0).any())
    if (~is_sound["verdicts"]).sum() > 0.1 * is_sound.height:
        found = trials.explode("verdicts").select("task", "duration_s", "pace_lost_s", "verdicts")
        machine.excuse(found)
    return trials.filter(pl.col("verdicts").list.len() == 0)


def test_every_planned_trial_is_ok_and_simulated(trials: pl.DataFrame) -> None:
    planned = [t.trial_id for block in expand_trials(load_sweep(ROOT / "sweeps" / "demo.toml")) for t in block.trials]
    assert sorted(trials.filter(attempt=1)["trial_id"]) == sorted(planned)
    assert set(trials["status"]) == {"ok"}
    assert trials["simulated"].all()
    assert trials["num_failed_requests"].sum() == 0


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
