"""`sweep run` from end to end on simulated GPUs in virtual time, with real Ray, actors, files and exit codes."""

import ipaddress
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest
import ray

from runner.hardware.clocks.lease import ClockLease
from runner.hardware.clocks.processes import find_marked
from runner.hardware.factory import open_nvml
from runner.hardware.nvml.gpu import NvmlGpu
from runner.physics.gpu_state import GpuConditions, GpuState
from runner.results.live import SweepView
from runner.results.outcome import RunOutcome
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS, SAMPLES, TRIALS
from runner.timebase import WallTime
from tests.execution.sweep_process import (
    MARK,
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

TOO_LARGE = '[[model]]\nid = "broken"\ntwin = "qwen2.5-32b"\n'
SMALL_GPU = "sim:rtx5090"
GOOD = '[[model]]\nid = "good"\ntwin = "llama-3.2-1b"\n'


def open_ports(mark: str) -> set[str]:
    """Return the addresses on which a run's processes listen."""
    found = {process.pid for process in find_marked(MARK, mark)}
    return {c.laddr.ip for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in found}


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def test_a_run_fills_its_directory_and_a_second_one_has_nothing_to_do(
    start_sweep: Start, write_sweep: Write, tmp_path: Path
) -> None:
    file = write_sweep(concurrency=[1, 4], repeats=2)
    directory = tmp_path / "run"
    run = start_sweep(file)
    run.wait_for("loaded in")
    ports = open_ports(run.mark)
    assert ports
    assert all(map(is_loopback, ports)), ports
    assert run.wait() == 0, run.output
    assert wait_until(lambda: not run.living()), run.living()

    trials = pl.read_parquet(directory / "trials.parquet")
    assert trials.columns == list(TRIALS)
    assert trials.height == 12
    assert set(trials["status"]) == {"ok"}
    assert trials["simulated"].all()
    assert trials["energy_j"].min() > 0
    assert set(read_rows(directory)) == set(trials["trial_id"])
    for trial_id in trials["trial_id"]:
        requests = pl.read_parquet(directory / "requests" / f"{trial_id}.parquet")
        power = pl.read_parquet(directory / "power" / f"{trial_id}.parquet")
        assert (requests.columns, power.columns) == (list(REQUESTS), list(POWER))
        assert requests.height >= 8
        assert power["power_w"].drop_nulls().len() > 50
    samples = pl.read_parquet(directory / "samples.parquet")
    assert samples.columns == list(SAMPLES)
    assert samples.height == 8
    manifest = read_manifest(directory)
    assert manifest["simulated"]
    assert manifest["num_trials"] == 12
    assert manifest["runs"][-1]["outcome"] == "done"
    kinds = [event["kind"] for event in read_events(directory)]
    assert kinds[0] == "sweep_started"
    assert kinds.count("trial_finished") == 12
    assert virtual_settings(tmp_path)[-1] == (None, None)
    assert any(time_source is not None for time_source, _ in virtual_settings(tmp_path))
    assert "SIMULATED" in run.output

    before = read_rows(directory)
    again = start_sweep(file, "--address", "127.0.0.1:1")  # neither Ray nor a GPU is needed to find out
    assert again.wait() == 0, again.output
    assert "nothing left to run" in again.output
    assert read_rows(directory) == before
    assert [run["outcome"] for run in read_manifest(directory)["runs"]] == ["done", "done"]


def test_limit_fresh_and_a_changed_fingerprint_on_a_cluster_that_stays(
    start_sweep: Start, write_sweep: Write, address: str, tmp_path: Path
) -> None:
    file = write_sweep(repeats=2)
    directory = tmp_path / "run"
    limited = start_sweep(file, "--address", address, "--limit", "2")
    assert limited.wait() == 0, limited.output
    first = read_rows(directory)
    assert len(first) == 2
    assert read_manifest(directory)["runs"][-1]["outcome"] == "done"

    manifest = read_manifest(directory)
    manifest["fingerprints"] = dict.fromkeys(manifest["fingerprints"], "another")
    manifest["versions"]["torch"] = "0.0"
    (directory / "manifest.json").write_text(json.dumps(manifest))
    refused = start_sweep(file, "--address", address)
    assert refused.wait() == 2, refused.output
    assert "torch 0.0 ->" in refused.output
    assert "--fresh" in refused.output
    assert "Traceback" not in refused.output
    assert read_rows(directory) == first

    fresh = start_sweep(file, "--address", address, "--fresh", "--limit", "1")
    assert fresh.wait() == 0, fresh.output
    assert "of the sweep's trials are left; the same command resumes the sweep" in fresh.output
    rows = read_rows(directory)
    assert len(rows) == 1
    assert all(row["start_ns"] > max(r["start_ns"] for r in first.values()) for row in rows.values())
    assert [node["Alive"] for node in ray.nodes()] == [True]


def test_what_a_first_load_shows_of_the_sensors_is_in_the_manifest_and_the_log(
    run_here: Run, write_sweep: Write, tmp_path: Path
) -> None:
    run_here(write_sweep(), gpu="sim:h200+h100")
    (gpu,) = read_manifest(tmp_path / "run")["gpus"]
    sensors = gpu["sensors"]["sensors"]
    assert sensors["average"]["averaging_window_s"] == 1.0
    assert sensors["counter"]["averaging_window_s"] == pytest.approx(0.1)
    assert 0.025 <= sensors["instant"]["averaging_window_max_s"] <= 0.202
    events = [event for event in read_events(tmp_path / "run") if event["kind"] == "sensors_watched"]
    assert len(events) == 1
    assert events[0]["message"] == f"sensors under a load: {gpu['sensors']['choice']}"


def test_two_gpus_share_the_blocks_of_one_model(run_here: Run, write_sweep: Write, tmp_path: Path) -> None:
    file = write_sweep(concurrency=[1, 2, 3, 4], repeats=2)
    outcome = run_here(file, gpu="sim:h200x2")
    assert (outcome.num_failed, outcome.num_left) == (0, 0)
    trials = pl.read_parquet(tmp_path / "run" / "trials.parquet")
    gpus_of_block = trials.group_by("block_id").agg(pl.col("gpu_uuids").list.first().n_unique())
    assert set(gpus_of_block["gpu_uuids"]) == {1}
    num_trials = trials.group_by(pl.col("gpu_uuids").list.first()).len()
    assert set(num_trials["gpu_uuids"]) == {"GPU-SIM-H200-0", "GPU-SIM-H200-1"}
    assert num_trials["len"].min() >= 6  # the trials of a block


def test_what_cannot_load_becomes_rows_and_is_tried_again(
    run_here: Run, start_sweep: Start, write_sweep: Write, address: str, tmp_path: Path
) -> None:
    file = write_sweep(models=TOO_LARGE + GOOD)
    run = start_sweep(file, "--address", address, "--gpu", SMALL_GPU)
    assert run.wait() == 1, run.output
    first = read_rows(tmp_path / "run")
    by_model = {model: [r for r in first.values() if r["model"] == model] for model in ("good", "broken")}
    assert [len(rows) for rows in by_model.values()] == [4, 4]
    assert {row["status"] for row in by_model["good"]} == {"ok"}
    for row in by_model["broken"]:
        assert row["status"] == "failed"
        assert "GiB: choose a smaller shape" in row["error"]
        assert row["energy_j"] is None
        assert row["gpu_uuids"] == ["GPU-SIM-GEFORCE-RTX-5090-0"]
    assert read_manifest(tmp_path / "run")["runs"][-1]["outcome"] == "failed"

    outcome = run_here(file, gpu=SMALL_GPU)
    assert (outcome.num_ok, outcome.num_failed, outcome.num_left) == (4, 4, 0)
    second = read_rows(tmp_path / "run")
    assert all((second[i] == row) == (row["status"] == "ok") for i, row in first.items())


def test_what_a_retry_can_help_is_measured_once_more_at_the_end_of_its_block(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path
) -> None:
    """A GPU gets too hot, in the first block or before the second, and stays hot until the end."""
    hot = GpuConditions(time_ns=0, max_sm_clock_mhz=600)
    last: list[SweepView] = []

    def overheat(view: SweepView) -> None:
        last.append(view)
        if view.num_done:
            for directory in (cluster / "gpus").glob("virtual-*/GPU-SIM-H200-0"):
                state = GpuState(directory)
                if not state.conditions_history():
                    state.change_conditions(hot)

    outcome = run_here(write_sweep(repeats=6, concurrency=[2, 3]), show=overheat)
    num_trials = 2 * (2 * 6 + 3)
    assert (outcome.num_ok, outcome.num_failed, outcome.num_left) == (num_trials, 0, 0)
    assert (last[-1].num_done, last[-1].num_trials) == (num_trials, num_trials)
    rows = read_rows(tmp_path / "run")
    first = {trial_id: row for trial_id, row in rows.items() if row["attempt"] == 1}
    again = {trial_id.removesuffix("-2"): row for trial_id, row in rows.items() if row["attempt"] == 2}
    assert len(first) == num_trials
    assert len(rows) == len(first) + len(again)
    throttled = {trial_id for trial_id, row in first.items() if row["verdicts"]}
    assert throttled
    assert set(again) == throttled
    for trial_id, row in again.items():
        assert row["start_ns"] > max(r["start_ns"] for r in first.values() if r["block_id"] == row["block_id"])
        assert "thermal_throttled" in row["verdicts"]
        asked = ("block_id", "task", "concurrency", "repeat", "is_sentinel", "sm_clock_mhz_requested")
        assert [row[name] for name in asked] == [first[trial_id][name] for name in asked]
    num_retries = Counter(row["block_id"] for row in again.values())
    told = [event["message"] for event in read_events(tmp_path / "run") if event["kind"] == "trials_retried"]
    assert sorted(told) == sorted(f"{number} of 15 trials once more" for number in num_retries.values())

    # The same blocks go on in a later run: what has had its retry is left alone.
    outcome = run_here(write_sweep(repeats=7, concurrency=[2, 3]))
    assert outcome.num_ok == 2 * (2 * 7 + 3)
    later = read_rows(tmp_path / "run")
    assert all(later[trial_id] == row for trial_id, row in rows.items())
    assert {row["attempt"] for trial_id, row in later.items() if trial_id not in rows} == {1}


def test_a_workload_that_does_not_fit_the_model_fails_by_itself(
    run_here: Run, write_sweep: Write, tmp_path: Path
) -> None:
    outcome = run_here(write_sweep(num_output_tokens=100_000))
    assert (outcome.num_ok, outcome.num_failed) == (0, 4)
    assert all("max_model_len" in row["error"] for row in read_rows(tmp_path / "run").values())


def test_without_permission_only_the_gpus_own_clocks_are_measured(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_PERMISSION", "denied")
    outcome = run_here(write_sweep(repeats=2))
    rows = read_rows(tmp_path / "run").values()
    assert outcome.num_failed == 2
    for row in rows:
        if row["sm_clock_mhz_requested"] is None:
            assert row["status"] == "ok"
        else:
            assert "root" in row["error"]
            assert "--clocks read-only" in row["error"]
    assert virtual_settings(cluster) == [(None, None)]
    assert not list((cluster / "leases").glob("*.json"))


def test_read_only_measures_the_default_point_and_sets_nothing(
    run_here: Run, write_sweep: Write, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    outcome = run_here(write_sweep(repeats=2), read_only=True)
    rows = read_rows(tmp_path / "run").values()
    assert (outcome.num_ok, outcome.num_failed, len(rows)) == (2, 0, 2)
    assert {row["sm_clock_mhz_requested"] for row in rows} == {None}
    assert virtual_settings(cluster) == [(None, None)]


def test_a_gpu_that_is_held_refuses_and_names_its_holder(
    start_sweep: Start, write_sweep: Write, address: str, cluster: Path, tmp_path: Path
) -> None:
    gpu = NvmlGpu(open_nvml("sim", WallTime(), cluster / "gpus"), 0, read_only=False)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=cluster / "leases"):
        refused = start_sweep(write_sweep(), "--address", address, engine="vllm")
        assert refused.wait() == 3, refused.output
    assert f"held by process {os.getpid()} on" in refused.output
    assert "Traceback" not in refused.output
    assert not (tmp_path / "run").exists()


def test_a_run_directory_has_one_run_at_a_time(start_sweep: Start, write_sweep: Write, tmp_path: Path) -> None:
    with RunStore(tmp_path / "run"):
        refused = start_sweep(write_sweep())
        assert refused.wait() == 2, refused.output
    assert "in use by another run" in refused.output
    assert "--out" in refused.output


def test_no_cluster_at_the_address_is_said_plainly(start_sweep: Start, write_sweep: Write, tmp_path: Path) -> None:
    refused = start_sweep(write_sweep(), "--address", "127.0.0.1:1")
    assert refused.wait() == 3, refused.output
    assert "no Ray cluster answers at 127.0.0.1:1" in refused.output
    assert "Traceback" not in refused.output
    assert not (tmp_path / "run").exists()
