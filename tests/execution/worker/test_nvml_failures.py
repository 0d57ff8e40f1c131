"""Every NVML call that a run makes fails in turn, with each of its codes, at the start, mid-window and at the end."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError

import runner
from runner.execution.aggregator.aggregator import Aggregator
from runner.execution.driver import worker_pool
from runner.execution.driver.dispatch import Queue
from runner.execution.driver.worker_pool import WorkerPool
from runner.execution.gpu_group import GpuGroup
from runner.execution.worker.worker import WorkerConfig
from runner.hardware import doctor, factory, selection
from runner.hardware.gpu import GpuLostError
from runner.hardware.simulated.faults import Fault, FaultyNvml, fail
from runner.hardware.simulated.module import SimulatedNvml
from runner.results.live import GpuView, SweepView
from runner.results.run_directory import RunStore
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials
from runner.timebase import VirtualTime
from tests.execution.worker.nvml_failures import (
    CODES_OF,
    MOMENTS,
    OLD_CALLS,
    OLD_DRIVER,
    POLLED_ON,
    SWEEP,
    USUAL_GPU,
    Actor,
    Campaign,
    find_locks_left,
    find_lost_rows,
    find_wrong_numbers,
    make_table,
    read_table,
    run_campaign,
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return run_campaign(tmp_path_factory.mktemp("campaign") / "run")


def test_nothing_is_wrong_where_nothing_fails(campaign: Campaign) -> None:
    for (gpu, _), outcome in campaign.sound.items():
        # Two seconds are 100 updates of a sample buffer alone.
        verdicts = [] if gpu in (USUAL_GPU, OLD_DRIVER) else ["window_too_short"]
        assert [(row["status"], row["verdicts"]) for row in outcome.rows] == [("ok", verdicts)] * len(outcome.planned)
        assert (outcome.refusal, outcome.lost, outcome.journal_stays) == (None, None, False)


def test_every_call_that_a_run_makes_is_made_to_fail(campaign: Campaign) -> None:
    called = set(campaign.sound[USUAL_GPU, "start"].last_call_ns)
    assert called == set(CODES_OF)
    assert set(campaign.sound[OLD_DRIVER, "start"].last_call_ns) == set(CODES_OF) | set(OLD_CALLS)
    # Nor is there one in the source that a run makes only now and then.
    sources = [path for path in Path(runner.__file__).parent.rglob("*.py") if "simulated" not in path.parts]
    named = {name for path in sources for name in re.findall(r"\bnvml(?:Init|System|Device|Gpm)\w*", path.read_text())}
    beginnings = {name for name in named - called if any(function.startswith(name) for function in called)}
    assert named - called - (beginnings - set(OLD_CALLS)) == set(OLD_CALLS)


def test_calls_fail_with_each_code_at_each_moment(campaign: Campaign) -> None:
    assert {case.function for case in campaign.outcomes if case.moment == "start"} == set(CODES_OF) | set(OLD_CALLS)
    number = Counter(case.moment for case in campaign.outcomes if case.gpu == USUAL_GPU)
    assert number["start"] == sum(map(len, CODES_OF.values()))
    # What reads while a window is open, and what puts the GPU back.
    for moment in MOMENTS[1:]:
        assert {case.function for case in campaign.outcomes if case.moment == moment} >= {
            "nvmlDeviceGetSamples",
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceResetGpuLockedClocks",
            "nvmlDeviceResetMemoryLockedClocks",
            "nvmlDeviceSetPowerManagementLimit",
            *POLLED_ON,
        }


def wrongs(campaign: Campaign, find: Any) -> dict[str, list[str]]:
    found = {str(case): list(find(case, outcome)) for case, outcome in campaign.outcomes.items()}
    return {case: what for case, what in found.items() if what}


def test_never_a_wrong_number(campaign: Campaign) -> None:
    assert wrongs(campaign, find_wrong_numbers) == {}


def test_never_a_lost_row(campaign: Campaign) -> None:
    assert wrongs(campaign, find_lost_rows) == {}


def test_never_a_lock_left(campaign: Campaign) -> None:
    assert wrongs(campaign, find_locks_left) == {}


def test_the_table_in_the_docs_is_this_one(campaign: Campaign) -> None:
    """`python tests/execution/worker/nvml_failures.py` writes the table."""
    assert read_table() == make_table(campaign)


@pytest.mark.parametrize("code", [1, 3, 15, 999])
@pytest.mark.parametrize("function", [name for name in CODES_OF if name != "nvmlInit"])
def test_the_doctor_speaks_of_whatever_fails(
    function: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(tmp_path / "leases"))
    time_source = VirtualTime()
    time_source.sleep(30.0)
    nvml = FaultyNvml(SimulatedNvml("sim", time_source, tmp_path))
    for module in (factory, selection):
        monkeypatch.setattr(module, "open_nvml", lambda *_: nvml)
    sound = doctor.examine("sim", None, time_source)
    nvml.faults.append(Fault(functions=(function,), effect=fail(code)))
    nvml.num_calls.clear()
    checks = doctor.examine("sim", None, time_source)
    assert checks
    if any(check.level == "error" for check in checks[1:]):
        assert any(function in check.finding for check in checks)
    elif not nvml.num_calls[function]:
        assert checks == sound


@pytest.mark.parametrize("num_gpus", [1, 2])
def test_the_last_gpu_that_is_lost_leaves_a_failed_row(
    num_gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another GPU measures the trial."""
    error = GpuLostError("nvmlDeviceGetSamples: the GPU no longer answers")

    def get(answer: Any, **_: Any) -> Any:
        if answer == "task":
            raise RayTaskError("run_block", "", error)
        return answer

    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.wait", lambda tasks, **_: (tasks, []))
    monkeypatch.setattr("ray.kill", lambda _: None)
    worker: Any = Actor(SimpleNamespace(run_block=lambda *_: "task"))
    monkeypatch.setattr(worker_pool, "start_worker", lambda *_: worker)
    sweep = parse_sweep(SWEEP)
    (block,) = expand_trials(sweep)
    infos: Any = [SimpleNamespace(uuid=f"GPU-{i}", name="H200", simulated=True) for i in range(num_gpus)]
    configs = [
        WorkerConfig(
            group=GpuGroup(gpu_request="nvidia", info=info, label="0", host="here"),
            sweep=sweep,
            engine="simulated",
            read_only=False,
            driver_process_id=None,
        )
        for info in infos
    ]
    store = RunStore(tmp_path)
    queue = Queue([block], [], {}, [info.uuid for info in infos])
    view = SweepView(name="failures", simulated=True, run_directory=str(tmp_path), num_trials=3)
    aggregator = Aggregator(tmp_path, view)
    for info in infos:
        aggregator.add_gpu(GpuView(gpu_uuid=info.uuid, label=info.uuid, name=info.name, simulated=True))
    pool = WorkerPool(configs, queue, store, Actor(aggregator))
    assert pool.assign()
    pool.collect(timeout_s=1.0)
    first, *others = [trial.trial_id for trial in block.trials]
    rows = store.read_trials([first, *others]).to_dicts()
    assert len(pool) == num_gpus - 1
    assert [gpu.phase for gpu in aggregator.snapshot().gpus] == ["lost", "starting"][:num_gpus]
    if num_gpus == 2:
        assert rows == []
        taken = queue.take("GPU-1")
        assert taken is not None
        assert taken.trial_ids == {first, *others}
    else:
        assert [(row["trial_id"], row["status"], row["gpu_uuids"]) for row in rows] == [(first, "failed", ["GPU-0"])]
        assert str(error) in rows[0]["error"]
