"""Drivers, workers and the aggregator are killed at several moments. Nothing is left behind, and no trial is lost."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from runner.execution.driver.cluster import ClusterError
from runner.hardware.clocks.journal import read_journal
from runner.results.live import SweepView
from runner.results.outcome import RunOutcome
from tests.execution.sweep_process import (
    SweepProcess,
    read_events,
    read_manifest,
    read_rows,
    virtual_settings,
    wait_until,
)

Start = Callable[..., SweepProcess]
Run = Callable[..., RunOutcome]
Write = Callable[..., Path]

MANY = {"name": "many", "concurrency": [1, 2], "repeats": 2, "sm_clock": '["default", {spaced=8}]'}
NUM_MANY = 2 * (2 * 9 + 4)
RESTORE_S = 50.0
"""The time after a kill within which nothing is left. A quiet machine needs a second or two. It is less than the minute
for which Ray's helper processes may wait for a server that never answers."""
RAY_HELPERS_S = 300.0
"""The same while Ray starts, when its helper processes are not known yet."""
HANGING_S = 60.0
"""How long the driver waits for a worker that hangs: 20 s for its trial to end, and 40 s for closing."""


def worker_of(state: Path) -> int | None:
    """Return the pid of the worker that holds a GPU."""
    for path in (state / "leases").glob("*.json"):
        journal = read_journal(path)
        if journal is not None:
            return journal.owners[0].pid
    return None


def require_nothing_left(run: SweepProcess, state: Path) -> None:
    """Return processes, locks and leases of a run whose driver is gone."""
    assert wait_until(lambda: not run.living(), RESTORE_S), run.living()
    # On a cluster that stays the worker is none of the run's processes: its guard sees it gone a moment later.
    assert wait_until(lambda: not list((state / "leases").glob("*.json")), RESTORE_S)
    assert virtual_settings(state)[-1] == (None, None)


def require_complete(directory: Path, before: dict[str, dict[str, object]], num_trials: int) -> None:
    """Check that every trial is there, and that no finished trial was run again."""
    rows = read_rows(directory)
    assert len(rows) == num_trials
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert all(rows[trial_id] == row for trial_id, row in before.items())
    ends = Counter(event["trial_id"] for event in read_events(directory) if event["kind"] == "trial_finished")
    assert set(ends) <= set(rows)
    # A driver may die between a row and its event, never the other way round.
    assert max(ends.values()) == 1
    assert sum(ends.values()) >= num_trials - 1


def test_a_killed_driver_leaves_no_lock_and_no_process_and_the_next_run_goes_on(
    start_sweep: Start, run_here: Run, write_sweep: Write, tmp_path: Path
) -> None:
    file, directory = write_sweep(**MANY), tmp_path / "run"
    starting = start_sweep(file)
    assert wait_until((directory / ".lock").exists)
    time.sleep(2.0)  # Ray is coming up
    starting.kill()
    assert wait_until(lambda: not starting.living(), RAY_HELPERS_S), starting.living()
    assert not read_rows(directory)

    before: dict[str, dict[str, object]] = {}
    run = start_sweep(file)
    run.wait_for("trials on 1 GPU")
    assert wait_until(lambda: len(list((directory / "trials").glob("[!.]*.parquet"))) >= 10)
    run.kill()
    require_nothing_left(run, tmp_path)
    before = read_rows(directory)
    assert 10 <= len(before) < NUM_MANY
    assert any(clock is not None for clock, _ in virtual_settings(tmp_path))
    assert read_manifest(directory)["runs"][-1]["end"] is None

    outcome = run_here(file)
    assert (outcome.num_ok, outcome.num_failed, outcome.num_left) == (NUM_MANY, 0, 0)
    require_complete(directory, before, NUM_MANY)
    assert not list(directory.rglob("*.partial"))
    assert [run["end"] is None for run in read_manifest(directory)["runs"]] == [True, False]
    assert len(list((tmp_path / "gpus").glob("virtual-*"))) == 1  # used again, however often a run is killed


def require_interrupted(run: SweepProcess, state: Path) -> dict[str, dict[str, object]]:
    """Check that an interrupted run left whole files and default clocks. Returns: its rows."""
    assert run.wait() == 130, run.output
    assert "Traceback" not in run.output
    require_nothing_left(run, state)
    assert "interrupted" in {event["kind"] for event in read_events(run.directory)}
    assert read_manifest(run.directory)["runs"][-1]["outcome"] == "interrupted"
    rows = read_rows(run.directory)
    assert 0 < len(rows) < NUM_MANY
    return rows


def test_ctrl_c_ends_a_run_whole_and_the_next_one_goes_on(
    start_sweep: Start, run_here: Run, write_sweep: Write, tmp_path: Path
) -> None:
    file = write_sweep(**MANY)
    run = start_sweep(file)  # with a Ray of its own: Ctrl-C reaches all its processes
    run.wait_for("MHz")
    run.interrupt()
    before = require_interrupted(run, tmp_path)
    assert run_here(file).num_ok == NUM_MANY
    require_complete(tmp_path / "run", before, NUM_MANY)


def test_sigterm_does_as_ctrl_c(start_sweep: Start, write_sweep: Write, address: str, cluster: Path) -> None:
    run = start_sweep(write_sweep(**MANY), "--address", address)
    run.wait_for("MHz")
    run.process.terminate()
    require_interrupted(run, cluster)


@pytest.mark.parametrize(
    ("signal_number", "after_s"), [(signal.SIGINT, 2.0), (signal.SIGTERM, 1.0), (signal.SIGTERM, 3.0)]
)
def test_a_signal_while_ray_comes_up_ends_the_run(
    start_sweep: Start, write_sweep: Write, tmp_path: Path, signal_number: int, after_s: float
) -> None:
    run = start_sweep(write_sweep())
    assert wait_until((tmp_path / "run" / ".lock").exists)
    time.sleep(after_s)
    if signal_number == signal.SIGINT:
        run.interrupt()
    else:
        run.process.terminate()
    assert run.wait() == 130, run.output
    assert "Traceback" not in run.output
    # Ctrl-C ends Ray's server too, before its helpers are known: they wait for it for up to a minute.
    assert wait_until(lambda: not run.living(), RAY_HELPERS_S), run.living()


def test_a_node_that_is_lost_leaves_no_lock_and_the_next_run_goes_on(
    start_sweep: Start, run_here: Run, write_sweep: Write, tmp_path: Path
) -> None:
    file, directory = write_sweep(min_window_s=30.0, repeats=6), tmp_path / "run"
    run = start_sweep(file)
    run.wait_for("MHz")
    run.find_child("raylet").kill()
    assert run.wait() in (1, 3), run.output
    assert "Traceback" not in run.output
    require_nothing_left(run, tmp_path)
    before = read_rows(directory)
    num_trials = 2 * 6 + 3
    assert 0 < len(before) < num_trials
    assert run_here(file).num_ok == num_trials
    require_complete(directory, before, num_trials)


def test_a_second_ctrl_c_does_not_wait_for_a_worker_that_hangs(
    start_sweep: Start, write_sweep: Write, address: str, cluster: Path, tmp_path: Path
) -> None:
    run = start_sweep(write_sweep(**MANY), "--address", address)
    run.wait_for("MHz")
    worker = worker_of(cluster)
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    first_s = time.monotonic()
    assert wait_until(lambda: "interrupted" in (tmp_path / "run" / "events.jsonl").read_text())
    time.sleep(1.0)
    assert run.process.poll() is None  # it waits for the worker, which neither ends its block nor closes
    run.process.send_signal(signal.SIGINT)
    assert run.wait(first_s + HANGING_S - time.monotonic()) == 130, run.output
    assert wait_until(lambda: not psutil.pid_exists(worker), RESTORE_S)
    require_nothing_left(run, cluster)
    assert read_manifest(tmp_path / "run")["runs"][-1]["outcome"] == "interrupted"


class WorkerKiller(threading.Thread):
    """Kills workers that hold a GPU, at most `num_kills`, once `is_time` returns True."""

    def __init__(self, state: Path, num_kills: int, is_time: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.killed: list[int] = []
        self._state, self._num_kills, self._is_time = state, num_kills, is_time

    def run(self) -> None:
        deadline_s = time.monotonic() + 500
        while len(self.killed) < self._num_kills and time.monotonic() < deadline_s:
            worker = worker_of(self._state)
            if worker is not None and worker not in self.killed and self._is_time():
                os.kill(worker, signal.SIGKILL)
                self.killed.append(worker)
            time.sleep(0.02)


def test_a_killed_worker_is_replaced_and_no_trial_is_lost(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    killer = WorkerKiller(cluster, 1, lambda: len(list((directory / "trials").glob("[!.]*.parquet"))) >= 10)
    killer.start()
    outcome = run_here(write_sweep(**MANY))
    killer.join()
    assert len(killer.killed) == 1
    assert (outcome.num_ok, outcome.num_failed, outcome.num_left) == (NUM_MANY, 0, 0)
    require_complete(directory, {}, NUM_MANY)
    assert [event["kind"] for event in read_events(directory)].count("worker_restarted") == 1
    assert virtual_settings(cluster)[-1] == (None, None)


def test_a_worker_that_dies_is_told_in_a_line(
    start_sweep: Start, write_sweep: Write, address: str, cluster: Path
) -> None:
    run = start_sweep(write_sweep(**MANY), "--address", address)
    run.wait_for("MHz")
    worker = worker_of(cluster)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    assert run.wait() == 0, run.output
    (told,) = [line for line in run.output.splitlines() if str(worker) in line]
    assert f"GPU n0:0: the worker is started again: its process {worker} died; its logs: " in told
    assert "raylet" not in run.output


def test_a_trial_that_kills_two_workers_fails_and_the_others_are_measured(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path
) -> None:
    last: list[SweepView] = []
    # The first trial is long enough to be hit twice; the GPU is killed under nothing else.
    file = write_sweep(name="long", repeats=2, sm_clock='["default"]', min_window_s=120.0)

    def is_measuring() -> bool:
        return bool(last and last[-1].gpus and last[-1].gpus[0].phase in ("warming up", "measuring"))

    killer = WorkerKiller(cluster, 2, is_measuring)
    killer.start()
    outcome = run_here(file, show=last.append)
    killer.join()
    assert len(killer.killed) == 2
    assert (outcome.num_ok, outcome.num_failed, outcome.num_left) == (1, 1, 0)
    failed = [row for row in read_rows(tmp_path / "run").values() if row["status"] == "failed"]
    assert "two workers died" in failed[0]["error"]
    assert failed[0]["gpu_uuids"] == ["GPU-SIM-H200-0"]
    assert virtual_settings(cluster)[-1] == (None, None)


def test_without_its_aggregator_a_run_ends_and_says_so(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path
) -> None:
    file, directory = write_sweep(**MANY), tmp_path / "run"
    killed: list[int] = []

    def kill_aggregator(_: SweepView) -> None:
        if not killed and len(list((directory / "trials").glob("[!.]*.parquet"))) >= 5:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # some of Ray's last for a moment only
                    if process.name().startswith("ray::Aggregator"):
                        process.kill()
                        killed.append(process.pid)

    message = r"^the aggregator is gone: its process \d+ died.*; the same command resumes the run$"
    with pytest.raises(ClusterError, match=message):
        run_here(file, show=kill_aggregator)
    assert killed
    before = read_rows(directory)
    assert wait_until(lambda: virtual_settings(cluster)[-1] == (None, None), RESTORE_S)
    assert run_here(file).num_ok == NUM_MANY
    require_complete(directory, before, NUM_MANY)
