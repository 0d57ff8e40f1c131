"""The run directory: whole files or none, one writer, nothing of anybody else's touched."""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.results.atomic_files import WriteError, write_atomically
from runner.results.live import Event
from runner.results.run_directory import RunDirectoryError, RunStore, open_run
from runner.results.tables import POWER, REQUESTS, SAMPLES, TRIALS
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials

SWEEP = {
    "name": "s",
    "repeats": 2,
    "model": [{"id": "m", "engine": {"max_model_len": 512}}],
    "task": [{"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 2}],
    "axes": {"sm_clock": ["default", "60%", {"spaced": 3}], "power_limit": ["default", 400]},
    "override": [{"model": "m", "concurrency": [1, 4]}],
}


def write_trial(store: RunStore, trial_id: str, start_ns: int = 1, **row: Any) -> None:
    requests = pl.DataFrame([dict.fromkeys(REQUESTS) | {"trial_id": trial_id, "request_id": "r#0"}], schema=REQUESTS)
    power = pl.DataFrame([dict.fromkeys(POWER) | {"time_ns": start_ns, "power_w": 99.5}], schema=POWER)
    store.write_trial({"trial_id": trial_id, "status": "ok", "start_ns": start_ns} | row, requests, power)


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run")


# trials --------------------------------------------------------------------------------------------------------------


def test_a_trial_is_three_files_that_read_back_as_written(store: RunStore) -> None:
    write_trial(store, "a", energy_j=12.5, verdicts=["trace_gap"], gpu_uuids=["GPU-0"])
    assert tree(store.directory) == {"trials/a.parquet", "requests/a.parquet", "power/a.parquet"}
    trials = store.read_trials()
    assert trials.schema == pl.Schema(TRIALS)
    row = trials.to_dicts()[0]
    assert (row["energy_j"], row["verdicts"], row["gpu_uuids"]) == (12.5, ["trace_gap"], ["GPU-0"])
    # What was not given is null, never 0.
    assert {column for column, value in row.items() if value is not None} == {
        "trial_id",
        "status",
        "start_ns",
        "energy_j",
        "verdicts",
        "gpu_uuids",
        "attempt",  # 1 unless a row says otherwise: an early release had no second attempts
    }
    assert row["attempt"] == 1
    assert store.read_requests("a").schema == pl.Schema(REQUESTS)
    assert store.read_power("a")["power_w"].to_list() == [99.5]


def test_a_column_that_no_schema_has_is_refused_before_anything_is_written(store: RunStore) -> None:
    with pytest.raises(AssertionError, match="energy_mj"):
        write_trial(store, "a", energy_mj=1)
    assert tree(store.directory.parent) == set()


@pytest.mark.parametrize("folder", ["power", "requests", "trials"])
def test_a_crash_while_any_of_its_files_is_written_leaves_no_finished_trial(
    store: RunStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trial(store, "whole")

    def crash(path: Path, target: Path) -> Path:
        if target.parent.name == folder:
            raise KeyboardInterrupt
        return os_replace(path, target)

    os_replace = Path.replace
    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_trial(store, "torn")
    monkeypatch.undo()
    assert store.finished_trial_ids() == {"whole"}
    assert store.gather_trials()["trial_id"].to_list() == ["whole"]
    assert any(name.endswith(".partial") for name in tree(store.directory))
    with store:
        assert not any(name.endswith(".partial") for name in tree(store.directory))
    write_trial(store, "torn")
    assert store.finished_trial_ids() == {"whole", "torn"}


@pytest.mark.parametrize("folder", ["power", "requests", "trials"])
def test_a_full_disk_leaves_no_part_of_a_finished_trial_and_is_told_with_its_file(
    store: RunStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trial(store, "whole")
    replace = Path.replace

    def fill(path: Path, target: Path) -> Path:
        if target.parent.name == folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fill)
    path = re.escape(str(store.directory / folder / "torn.parquet"))
    with pytest.raises(WriteError, match=rf"{path} could not be written \(No space left on device\): free some space"):
        write_trial(store, "torn")
    monkeypatch.undo()
    assert store.finished_trial_ids() == {"whole"}
    assert not any(name.endswith(".partial") for name in tree(store.directory))
    write_trial(store, "torn")
    assert store.finished_trial_ids() == {"whole", "torn"}


def test_finished_is_what_ended_well_and_a_failed_trial_is_replaced(store: RunStore) -> None:
    write_trial(store, "a")
    write_trial(store, "b", status="failed", error="the engine died")
    assert store.finished_trial_ids() == {"a"}
    assert [store.is_finished(trial_id) for trial_id in ("a", "b", "c")] == [True, False, False]
    assert store.read_trials().height == 2
    write_trial(store, "b")
    assert store.finished_trial_ids() == {"a", "b"}
    assert store.read_trials().height == 2


def test_trials_are_gathered_in_order_of_start(store: RunStore) -> None:
    for trial_id, start_ns in (("c", 1), ("a", 3), ("b", 2)):
        write_trial(store, trial_id, start_ns)
    assert store.gather_trials()["trial_id"].to_list() == ["c", "b", "a"]
    assert pl.read_parquet(store.directory / "trials.parquet").equals(store.read_trials())


def test_a_row_of_an_earlier_version_lacks_no_column(store: RunStore) -> None:
    write_trial(store, "t")
    path = store.directory / "trials" / "t.parquet"
    pl.read_parquet(path).drop("sm_clock_mhz", "verdicts").write_parquet(path)
    trials = store.read_trials()
    assert trials.schema == pl.Schema(TRIALS)
    assert trials.select("trial_id", "sm_clock_mhz", "verdicts").row(0) == ("t", None, None)


def test_only_the_trials_asked_for_are_read(store: RunStore) -> None:
    for trial_id in ("a", "b", "c"):
        write_trial(store, trial_id)
    assert store.read_trials({"a", "c", "elsewhere"})["trial_id"].to_list() == ["a", "c"]
    assert store.gather_trials([]).schema == pl.Schema(TRIALS)


def test_an_empty_or_missing_directory_has_no_trial(store: RunStore) -> None:
    assert store.read_trials().schema == pl.Schema(TRIALS)
    assert store.finished_trial_ids() == frozenset()
    assert not store.directory.exists()


def test_rows_of_an_earlier_version_with_fewer_columns_are_read_too(store: RunStore) -> None:
    write_trial(store, "new", 2)
    pl.DataFrame({"trial_id": ["old"], "status": ["ok"], "start_ns": [1]}).write_parquet(
        store.directory / "trials" / "old.parquet"
    )
    assert store.read_trials()["trial_id"].to_list() == ["old", "new"]
    assert store.finished_trial_ids() == {"old", "new"}


def test_requests_of_several_trials_are_read_lazily(store: RunStore) -> None:
    for trial_id in "abc":
        write_trial(store, trial_id)
    path = store.directory / "requests" / "b.parquet"  # as an earlier release wrote it
    pl.read_parquet(path).drop("prompt_surprise_nats").write_parquet(path)
    requests = store.scan_requests(["a", "b"])
    assert requests.collect_schema() == pl.Schema(REQUESTS)
    assert requests.collect()["trial_id"].to_list() == ["a", "b"]
    assert store.scan_requests([]).collect().schema == pl.Schema(REQUESTS)


def test_the_round_of_a_request_of_release_0_1_is_read_from_its_id(store: RunStore) -> None:
    requests = pl.DataFrame([{"trial_id": "t", "request_id": f"qa/{k}#{k}"} for k in (0, 12)], schema=REQUESTS)
    store.write_trial({"trial_id": "t", "status": "ok"}, requests, pl.DataFrame(schema=POWER))
    path = store.directory / "requests" / "t.parquet"
    for written in (requests, requests.drop("round")):
        written.write_parquet(path)
        assert store.read_requests("t")["round"].to_list() == [0, 12]
    requests.with_columns(round=pl.lit(7)).cast({"round": pl.Int64}).write_parquet(path)
    assert store.read_requests("t")["round"].to_list() == [7, 7]


def test_samples_of_an_earlier_release_have_every_column(store: RunStore) -> None:
    frame = pl.DataFrame({name: [None] for name in SAMPLES}, schema=SAMPLES)
    store.write_samples(frame)
    path = store.directory / "samples.parquet"
    pl.read_parquet(path).drop("entities_pipeline", "mtld").write_parquet(path)
    assert store.read_samples().schema == pl.Schema(SAMPLES)


def test_samples_are_read_back(store: RunStore) -> None:
    assert store.read_samples().schema == pl.Schema(SAMPLES)
    samples = pl.DataFrame([dict.fromkeys(SAMPLES) | {"task": "t", "sample_id": "0"}], schema=SAMPLES)
    store.write_samples(samples)
    assert store.read_samples().equals(samples)


# one writer ----------------------------------------------------------------------------------------------------------


HOLDER = """
import sys
from pathlib import Path
from runner.results.run_directory import RunStore
with RunStore(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(store: RunStore) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the directory."""
    command = [sys.executable, "-c", HOLDER, str(store.directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_told_who_holds_the_directory(
    store: RunStore, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(RunDirectoryError, match=rf"in use by another run \(process {holder.pid}\).*--out"), store:
        pass
    assert store.read_trials().height == 0  # reading needs no lock
    holder.kill()
    holder.wait()
    with store:
        assert (store.directory / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_directory_is_free_again_after_its_run(store: RunStore) -> None:
    with store:
        pass
    with store, pytest.raises(RunDirectoryError, match=str(os.getpid())), RunStore(store.directory):
        pass
    with store:
        pass


def test_what_was_made_for_a_run_that_is_refused_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with RunStore(tmp_path / "here" / "runs" / "refused") as store:
        store.append_event(Event(time_ns=1, level="info", kind="k", message="m"))
        store.write_samples(pl.DataFrame(schema=SAMPLES))
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


@pytest.mark.parametrize("name", ["manifest.json", "trials/a.parquet"])
def test_what_a_run_has_measured_stays(store: RunStore, name: str) -> None:
    with store:
        write_atomically(store.directory / name, b"")
    assert tree(store.directory) == {".lock", name}


def test_a_directory_that_was_there_before_stays_and_so_does_what_others_put_into_a_new_one(store: RunStore) -> None:
    with store:
        (store.directory / "notes.md").write_text("mine")
    assert tree(store.directory) == {"notes.md"}
    with store:
        pass
    assert tree(store.directory) == {"notes.md", ".lock"}  # whoever waits for it may have opened it


def test_a_run_that_is_refused_leaves_the_lock_of_another(store: RunStore, holder: subprocess.Popen[str]) -> None:
    before = (store.directory / ".lock").stat()
    with pytest.raises(RunDirectoryError), store:
        pass
    assert os.path.samestat((store.directory / ".lock").stat(), before)
    assert store.is_in_use()
    assert holder.poll() is None


def test_a_lock_whose_file_was_removed_after_it_was_opened_counts_for_nothing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next writer has opened the file, when the one before it ends and removes it together with the directory."""
    before, flock = RunStore(store.directory), fcntl.flock
    before.__enter__()
    locked: list[os.stat_result] = []

    def flock_too_late(descriptor: int, operation: int) -> None:
        if not locked:
            before.__exit__()
            assert not store.directory.exists()
        locked.append(os.fstat(descriptor))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with store:
        assert [lock.st_nlink for lock in locked] == [0, 1]  # names in any directory
        assert os.path.samestat(locked[1], (store.directory / ".lock").stat())
        with pytest.raises(RunDirectoryError, match="in use"), RunStore(store.directory):
            pass


# --fresh, and what is not the run's ----------------------------------------------------------------------------------


def test_clear_removes_a_runs_files_and_nothing_else(store: RunStore) -> None:
    write_trial(store, "a")
    store.gather_trials()
    store.write_manifest({"sweep": SWEEP, "options": {}})
    store.write_samples(pl.DataFrame(schema=SAMPLES))
    store.append_event(Event(time_ns=1, level="info", kind="k", message="m"))
    (store.directory / "report.html").write_text("")
    others = {"notes.md", "requests/session.py", "sub/trials/x.parquet", "mine.parquet"}
    for name in others:
        (store.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (store.directory / name).write_text("mine")
    store.clear()
    assert tree(store.directory) == others
    assert not (store.directory / "trials").exists()


def test_taking_a_directory_sweeps_its_own_partial_files_only(store: RunStore) -> None:
    names = [".manifest.json.1.partial", "power/.a.parquet.1.partial", "sub/.download.partial"]
    for name in names:
        (store.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (store.directory / name).write_text("")
    with store:
        assert tree(store.directory) == {".lock", "sub/.download.partial"}


# manifest and events -------------------------------------------------------------------------------------------------


def test_the_manifest_reads_back_and_its_sweep_expands_to_the_same_trials(store: RunStore) -> None:
    sweep = parse_sweep(SWEEP)
    for read_only in (False, True):
        store.write_manifest({"sweep": sweep.model_dump(mode="json"), "options": {"read_only": read_only}})
        expected = [t.trial_id for block in expand_trials(sweep, read_only=read_only) for t in block.trials]
        assert store.planned_trial_ids() == expected
        assert len(expected) == (4 if read_only else 2 * (2 * 10 + 4))


def test_a_directory_without_a_manifest_is_no_run_and_the_others_are_named(store: RunStore) -> None:
    assert store.read_manifest() is None
    RunStore(store.directory.parent / "other").write_manifest({"sweep": SWEEP, "options": {}})
    with pytest.raises(RunDirectoryError, match=r"holds no run \(no manifest\.json\); runs: .*other"):
        open_run(store.directory)


@pytest.mark.parametrize("content", [b"", b'{"name": ', b"[]", b"3", b'{"name": "a web page"}', b"\xff\xfe"])
def test_a_damaged_or_foreign_manifest_is_an_error_that_says_what_to_do(store: RunStore, content: bytes) -> None:
    write_atomically(store.directory / "manifest.json", content)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json .*--fresh"):
        open_run(store.directory)


def test_events_are_lines_of_json_without_what_is_unknown(store: RunStore) -> None:
    store.append_event(Event(time_ns=1, level="info", kind="sweep_started", message="2 trials\non 1 GPU"))
    store.append_event(Event(time_ns=2, level="error", kind="trial_failed", message="no", trial_id="a"))
    lines = (store.directory / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time_ns": 1, "level": "info", "kind": "sweep_started", "message": "2 trials\non 1 GPU"},
        {"time_ns": 2, "level": "error", "kind": "trial_failed", "message": "no", "trial_id": "a"},
    ]


def test_a_capacity_is_kept_by_its_key(store: RunStore) -> None:
    assert store.read_capacity("a") is None
    store.append_capacity("a", {"model": "m"}, 12.5)
    store.append_capacity("b", {"model": "m"}, 7.0)
    assert (store.read_capacity("a"), store.read_capacity("b"), store.read_capacity("c")) == (12.5, 7.0, None)
    lines = (store.directory / "capacities.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"key": "a", "model": "m", "capacity_per_s": 12.5}
