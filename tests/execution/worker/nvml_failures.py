"""Each call of NVML that the product makes fails, with each of its codes, at three moments of a short run.

The worker, sampler, lease, analysis and run directory are the real ones, in virtual time; Ray's place is taken by plain
calls, and the guard's by `restore_leftover`. `test_nvml_failures.py` judges the outcomes; run as a program, this module
writes them into docs/failures.md.
"""

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray

from runner.execution.aggregator.aggregator import Aggregator
from runner.execution.gpu_group import GpuGroup
from runner.execution.worker import gpu_session
from runner.execution.worker import worker as worker_module
from runner.execution.worker.fingerprint import describe_versions
from runner.execution.worker.worker import GpuWorker, WorkerConfig
from runner.hardware.clocks import gpu_lock
from runner.hardware.clocks.journal import read_journal, write_journal
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.clocks.recovery import restore_leftover
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuError, GpuLostError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.selection import select_gpus
from runner.hardware.sensors.probe import probe_sensors
from runner.hardware.simulated.faults import Fault, FaultyNvml, fail
from runner.hardware.simulated.module import SimulatedNvml
from runner.physics.gpu_state import GpuSettings
from runner.results.live import SweepView
from runner.results.run_directory import RunStore
from runner.results.sensors import SensorFindings
from runner.spec.request import Request
from runner.spec.sweep import SweepSpec, parse_sweep
from runner.spec.trial import expand_trials
from runner.tasks.synthetic import SyntheticTask
from runner.timebase import VirtualTime

SWEEP: dict[str, Any] = {
    "name": "failures",
    "repeats": 1,
    "min_window_s": 2.0,
    "num_warmup_requests": 2,
    "model": [{"id": "shapes/qwen2.5-32b", "twin": "qwen2.5-32b"}],
    "task": [{"name": "synthetic", "num_prompt_tokens": 16, "num_output_tokens": 32, "num_requests": 2}],
    "axes": {"concurrency": [2], "sm_clock": [990], "mem_clock": [2201], "power_limit": [500]},
}
"""A sentinel at the default clock, then a trial that sets everything."""
ADMINISTRATORS_LIMIT_W = 600.0
"""The power limit before the run, which the run must restore. The GPU's default is 700 W."""

CODES = {
    1: "UNINITIALIZED",
    2: "INVALID_ARGUMENT",
    3: "NOT_SUPPORTED",
    4: "NO_PERMISSION",
    6: "NOT_FOUND",
    7: "INSUFFICIENT_SIZE",
    8: "INSUFFICIENT_POWER",
    9: "DRIVER_NOT_LOADED",
    10: "TIMEOUT",
    11: "IRQ_ISSUE",
    13: "FUNCTION_NOT_FOUND",
    15: "GPU_IS_LOST",
    16: "RESET_REQUIRED",
    20: "MEMORY",
    999: "UNKNOWN",
}
_ANY = (1, 2, 3, 10, 13, 15, 16, 999)
"""What every function of a GPU may answer: nvml.h lists 1, 2, 3, 15 and 999 for nearly all; 13 is nvidia-ml-py's
where the driver's library lacks the function; 10 and 16 come from a driver that is stuck, whatever the list says."""
_LIST = (*_ANY, 7)
"""Of functions that fill a buffer of the caller's."""
_SET = (*_ANY, 4)
CODES_OF: dict[str, tuple[int, ...]] = {
    "nvmlInit": (4, 9, 999),
    "nvmlSystemGetDriverVersion": (1, 2, 7, 13, 999),
    "nvmlDeviceGetCount": (1, 2, 999),
    "nvmlDeviceGetHandleByIndex": (1, 2, 4, 8, 11, 15, 999),
    "nvmlDeviceGetHandleByUUID": (1, 2, 4, 6, 8, 11, 15, 999),
    "nvmlDeviceGetUUID": _LIST,
    "nvmlDeviceGetIndex": _ANY,
    "nvmlDeviceGetName": _LIST,
    "nvmlDeviceGetMigMode": _ANY,
    "nvmlDeviceGetPersistenceMode": _ANY,
    "nvmlDeviceGetSupportedMemoryClocks": _LIST,
    "nvmlDeviceGetSupportedGraphicsClocks": (*_LIST, 6),
    "nvmlDeviceGetPowerManagementLimitConstraints": _ANY,
    "nvmlDeviceGetPowerManagementDefaultLimit": _ANY,
    "nvmlDeviceGetPowerManagementLimit": _ANY,
    "nvmlDeviceGetMemoryInfo": (*_ANY, 4),
    "nvmlDeviceGetComputeRunningProcesses": (*_LIST, 4, 20),
    "nvmlDeviceGetSamples": (*_LIST, 6),
    "nvmlDeviceGetFieldValues": _ANY,
    "nvmlDeviceGetPowerUsage": (*_ANY, 4),
    "nvmlDeviceGetTotalEnergyConsumption": _ANY,
    "nvmlDeviceGetClockInfo": _ANY,
    "nvmlDeviceGetTemperatureV": _ANY,
    "nvmlDeviceGetCurrentClocksEventReasons": _ANY,
    "nvmlGpmQueryDeviceSupport": _ANY,
    "nvmlGpmSampleAlloc": (2, 13, 20, 999),
    "nvmlGpmSampleGet": (*_ANY, 4),
    "nvmlGpmMetricsGet": _ANY,
    "nvmlGpmSampleFree": (2, 13, 999),
    "nvmlDeviceSetGpuLockedClocks": _SET,
    "nvmlDeviceSetMemoryLockedClocks": _SET,
    "nvmlDeviceSetPowerManagementLimit": _SET,
    "nvmlDeviceResetGpuLockedClocks": _SET,
    "nvmlDeviceResetMemoryLockedClocks": _SET,
}
"""Every function that a run calls, and the codes with which it fails: those that nvml.h lists for it, and _ANY."""

OLD_CALLS: dict[str, tuple[int, ...]] = {
    "nvmlDeviceGetTemperature": _ANY,
    "nvmlDeviceGetCurrentClocksThrottleReasons": _ANY,
    "nvmlDeviceGetViolationStatus": (*_ANY, 4),
}
"""Functions that a run calls where the driver lacks their successors, and their codes."""

POLLED_ON = {"nvmlDeviceGetFieldValues": "sim:h200+h100", "nvmlDeviceGetPowerUsage": "sim:h200+average-only"}
"""What a window is measured with on GPUs without a sample buffer, and such GPUs: failed there too."""

MAX_ERROR = 0.01
"""Of an energy without a verdict."""
USUAL_GPU = "sim"
OLD_DRIVER = "sim, old driver"
"""The usual GPU behind a driver without the successors of `OLD_CALLS`."""
MOMENTS = ("start", "mid-window", "end")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One function that fails from a moment of the run until the run is over."""

    function: str
    code: int
    moment: str
    gpu: str = USUAL_GPU

    def __str__(self) -> str:
        return f"{self.function} {CODES[self.code]} at {self.moment} on {self.gpu}"


@dataclass(kw_only=True)
class Outcome:
    """The consequences of a fault for a run."""

    refusal: str | None = None
    """Why the worker refused the run; None if it did not."""
    lost: str | None = None
    """Why the worker released its GPU and handed trials without a row back; None if it did not."""
    planned: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    truths_j: dict[str, float] = field(default_factory=dict)
    """The exact energy of each trial's window, in J, by trial id."""
    events: list[str] = field(default_factory=list)
    close_error: str | None = None
    journal_stays: bool = False
    first_restore: list[str] = field(default_factory=list)
    """What `sweep doctor` says while the call still fails, if the journal stayed,"""
    settings_after: tuple[int | None, int | None, float | None] | None = None
    """what is set once the call works again and `sweep doctor` has been there,"""
    journal_left: bool = False
    last_call_ns: dict[str, int] = field(default_factory=dict)
    """Of each function that the run called, before anybody cleared up."""


class Actor:
    """Stands for an actor's handle: `handle.method.remote(...)` calls at once."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._target, name))


class _Driver(FaultyNvml):
    """Stands in for the `pynvml` module, with a simulated GPU behind it."""

    request = "nvidia"

    def __init__(self, nvml: SimulatedNvml, faults: Sequence[Fault]) -> None:
        super().__init__(nvml, faults)
        self.last_call_ns: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml"):
            self.last_call_ns[name] = self.true_nvml.time_source.now_ns()
        return super().__getattr__(name)


_describe_versions = cache(describe_versions)
_draw = SyntheticTask.requests


@cache
def _draw_once(task: SyntheticTask, **sizes: int) -> list[Request]:
    return _draw(task, None, **sizes)


@contextmanager
def _in_place_of_a_machine(folder: Path, nvml: Any, time_source: VirtualTime) -> Iterator[None]:
    with (
        mock.patch.dict(sys.modules, {"pynvml": nvml}),
        mock.patch.dict(os.environ, {"SWEEP_LEASE_DIR": str(folder / "leases"), "SWEEP_SIMULATED_STATE": str(folder)}),
        mock.patch.object(worker_module, "VirtualTime", return_value=time_source),
        mock.patch.object(gpu_session, "ClockLease", partial(ClockLease, guarded=False)),
        mock.patch.object(gpu_lock, "SHARED_DIR", folder / "locks"),
        mock.patch.object(ray, "get", lambda answer: answer),
        # Drawing prompts from a vocabulary of 150,000, and asking for versions, takes longer than the rest of a run.
        mock.patch.object(SyntheticTask, "requests", lambda task, _, **sizes: _draw_once(task, **sizes)),
        mock.patch("runner.execution.worker.fingerprint.describe_versions", _describe_versions),
        mock.patch.object(worker_module, "describe_versions", _describe_versions),
    ):
        yield


class _Probe:
    """A sensor probe for GPUs that fail later. It probes once, and returns the same findings each time."""

    def __init__(self) -> None:
        self._made: tuple[SensorFindings, float] | None = None

    def __call__(self, gpu: NvmlGpu, time_source: VirtualTime) -> SensorFindings:
        if self._made is None:
            start_ns = time_source.now_ns()
            findings = probe_sensors(gpu, time_source)
            self._made = findings, (time_source.now_ns() - start_ns) * 1e-9
        else:
            time_source.sleep(self._made[1])
        return self._made[0]


def run_once(
    folder: Path,
    fault: Fault | None = None,
    *,
    gpu: str = USUAL_GPU,
    trials: slice = slice(2),
    probe: Any = probe_sensors,
) -> Outcome:
    """Run some trials of the sweep on a new GPU with a fault, end the run, and clear up as a user would."""
    shutil.rmtree(folder, ignore_errors=True)
    time_source = VirtualTime()
    is_old = gpu == OLD_DRIVER
    true_nvml = SimulatedNvml(USUAL_GPU if is_old else gpu, time_source, folder / "gpus", has_successors=not is_old)
    state = true_nvml.nvmlDeviceGetHandleByIndex(0).state
    state.change_settings(GpuSettings(time_ns=time_source.now_ns(), power_limit_w=ADMINISTRATORS_LIMIT_W))
    time_source.sleep(30.0)
    nvml = _Driver(true_nvml, [] if fault is None else [fault])
    outcome = Outcome()
    with _in_place_of_a_machine(folder, nvml, time_source), mock.patch.object(gpu_session, "probe_sensors", probe):
        _run_sweep(folder, nvml, time_source, outcome, trials)
        outcome.last_call_ns = dict(nvml.last_call_ns)
        _clear_up(folder, nvml, outcome)
    last = state.settings_history()[-1]
    outcome.settings_after = (last.sm_clock_mhz, last.mem_clock_mhz, last.power_limit_w)
    history = true_nvml.nvmlDeviceGetHandleByIndex(0).history
    for row in outcome.rows:
        if row["status"] == "ok":
            end_ns = row["start_ns"] + round(row["duration_s"] * 1e9)
            outcome.truths_j[row["trial_id"]] = history.energy_j(end_ns) - history.energy_j(row["start_ns"])
    return outcome


def _run_sweep(folder: Path, nvml: Any, time_source: VirtualTime, outcome: Outcome, trials: slice) -> None:
    try:
        infos = select_gpus(open_nvml("nvidia", time_source), "all", None)
    except GpuError as error:
        outcome.refusal = str(error)
        return
    sweep: SweepSpec = parse_sweep(SWEEP)
    (block,) = expand_trials(sweep)
    outcome.planned = [trial.trial_id for trial in block.trials[trials]]
    view = SweepView(name="failures", simulated=True, run_directory=str(folder / "run"), num_trials=2)
    with RunStore(folder / "run") as store:
        aggregator = Aggregator(folder / "run", view)
        aggregator.load_tasks(sweep)
        group = GpuGroup(gpu_request="nvidia", info=infos[0], label="0", host="here")
        config = WorkerConfig(group=group, sweep=sweep, engine="simulated", read_only=False, driver_process_id=None)
        worker = GpuWorker(config, Actor(aggregator))
        try:
            worker.describe()
        except GpuError as error:
            outcome.refusal = str(error)
            return
        try:
            worker.run_block(block, outcome.planned)
        except GpuLostError as error:
            outcome.lost = str(error)
        try:
            worker.close()
        except GpuError as error:
            outcome.close_error = str(error)
        retries = [f"{trial_id}-2" for trial_id in outcome.planned]
        outcome.rows = store.read_trials([*outcome.planned, *retries]).sort("start_ns").to_dicts()
        outcome.events = [event.kind for event in aggregator.snapshot().events]


def _clear_up(folder: Path, nvml: FaultyNvml, outcome: Outcome) -> None:
    """After the worker's process has ended, run `sweep doctor --reset-clocks`, and again once the call works."""
    for path in (folder / "leases").glob("*.json"):
        journal = read_journal(path)
        assert journal is not None
        outcome.journal_stays = True
        dead = tuple(owner._replace(start_ticks=0) for owner in journal.owners)
        write_journal(path, replace(journal, owners=dead))
    if outcome.journal_stays:
        outcome.first_restore = [settlement.account for settlement in restore_leftover()]
        nvml.faults.clear()
        restore_leftover()
    outcome.journal_left = any((folder / "leases").glob("*.json"))


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A run by GPU and moment in which nothing fails, and each case's; what a moment never calls is no case of it."""

    sound: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    outcomes: dict[Case, Outcome] = field(default_factory=dict)


def run_campaign(folder: Path) -> Campaign:
    """Run every case."""
    campaign = Campaign()
    _fail_each(campaign, folder, USUAL_GPU, list(CODES_OF))
    _fail_each(campaign, folder, OLD_DRIVER, list(OLD_CALLS))
    for function, gpu in POLLED_ON.items():
        _fail_each(campaign, folder, gpu, [function])
    return campaign


def _fail_each(campaign: Campaign, folder: Path, gpu: str, functions: Sequence[str]) -> None:
    """Run the cases of some functions on a kind of GPU.

    What fails in or after the window of a trial with everything set needs no trial before it.
    """
    from_start: dict[str, Any] = {"gpu": gpu, "trials": slice(2)}
    later: dict[str, Any] = {"gpu": gpu, "trials": slice(1, 2), "probe": _Probe()}
    window = run_once(folder, **later).rows[0]
    end_ns = window["start_ns"] + round(window["duration_s"] * 1e9)
    middle_ns = (window["start_ns"] + end_ns) // 2
    for moment, start_ns, how in zip(MOMENTS, (0, middle_ns, end_ns), (from_start, later, later), strict=True):
        sound = campaign.sound[gpu, moment] = run_once(folder, **how)
        for function in functions:
            if sound.last_call_ns.get(function, -1) < start_ns:
                continue
            for code in (CODES_OF | OLD_CALLS)[function]:
                fault = Fault(functions=(function,), effect=fail(code), start_ns=start_ns)
                case = Case(function=function, code=code, moment=moment, gpu=gpu)
                campaign.outcomes[case] = run_once(folder, fault, **how)


def find_wrong_numbers(_: Case, outcome: Outcome) -> Iterator[str]:
    """Yield every energy that is wrong, and is neither null nor has a verdict."""
    for row in outcome.rows:
        if row["status"] != "ok":
            continue
        truth_j = outcome.truths_j[row["trial_id"]]
        for name in ("energy_j", "energy_trace_j", "energy_counter_j"):
            if row[name] is not None and abs(row[name] / truth_j - 1) > MAX_ERROR and not row["verdicts"]:
                yield f"{name} is {row[name]} and should be {truth_j}, without a verdict"
            if row[name] == 0:
                yield f"{name} is 0"
        if row["energy_j"] is None and not row["verdicts"]:
            yield "energy_j is null without a verdict"


def find_lost_rows(case: Case, outcome: Outcome) -> Iterator[str]:
    """Yield every trial without a row that no other worker measures, and every error without a message."""
    errors = [outcome.refusal, outcome.lost, outcome.close_error, *(row["error"] for row in outcome.rows)]
    for error in errors:
        if error is not None and case.function not in error:
            yield f"an error does not name the call: {error}"
    left = set(outcome.planned) - {row["trial_id"] for row in outcome.rows}
    if left and outcome.refusal is None and outcome.lost is None:
        yield f"{len(left)} trials have no row"


def find_locks_left(case: Case, outcome: Outcome) -> Iterator[str]:
    """Yield every setting that is still in force, or that no journal, event or message names."""
    if outcome.settings_after != (None, None, ADMINISTRATORS_LIMIT_W):
        yield f"the GPU is left at {outcome.settings_after}"
    if outcome.journal_left:
        yield "a journal is left although nothing is owed"
    if outcome.journal_stays and "board_not_restored" not in outcome.events:
        yield "nobody was told that the GPU is still set"
    if outcome.journal_stays and not any(
        "not restored" in line and case.function in line for line in outcome.first_restore
    ):
        yield f"sweep doctor says {outcome.first_restore} while the GPU is still set"


# the table in docs/failures.md ---------------------------------------------------------------------------------------

_IMPLIED = {
    "energy_j": (
        *("energy_source", "energy_uncertainty_j", "energy_above_idle_j", "mean_power_w", "unattributed_energy_j"),
        *("joules_per_output_token", "joules_per_request", "energy_delay_product_js", "energy_trace_j"),
    ),
    "energy_trace_j": (
        *("counter_interval_trace_j", "steady_duration_s", "steady_energy_j", "steady_num_output_tokens"),
        *("max_power_gap_s", "power_source", "unattributed_energy_j"),
    ),
    "energy_counter_j": ("counter_interval_j", "counter_interval_trace_j"),
    "idle_power_w": ("energy_above_idle_j",),
    "tensor_active_fraction": ("dram_active_fraction", "sm_active_fraction"),
    "sm_clock_mhz": ("sm_clock_mhz_p05", "sm_clock_below_fraction", "prefill_sm_clock_mhz", "decode_sm_clock_mhz"),
}
"""Columns that the table leaves out, since they are null wherever another one is."""
_BEGIN, _END = "<!-- outcomes -->", "<!-- end of outcomes -->"
DOCUMENT = Path(__file__).parents[3] / "docs" / "failures.md"


def describe(outcome: Outcome, sound: Outcome) -> str:
    """Return the consequences of a fault in a few words."""
    if outcome.refusal is not None:
        return "no run"
    rows = {row["trial_id"]: row for row in outcome.rows}
    *default, point = [_describe_row(rows.get(row["trial_id"]), row) for row in sound.rows]
    words = point if default in ([], [point], ["sound"]) else f"default: {default[0]}; point: {point}"
    return words + ("; owed" if outcome.journal_stays else "")


def _describe_row(row: dict[str, Any] | None, sound: dict[str, Any]) -> str:
    if row is None:
        return "GPU lost"
    if row["status"] == "failed":
        return "failed row"
    words = []
    if row["energy_source"] != sound["energy_source"]:
        words += [f"energy from the {row['energy_source']}"] if row["energy_source"] else []
    words += [f"`{verdict}`" for verdict in row["verdicts"] if verdict not in sound["verdicts"]]
    null = [name for name in sound if row[name] is None and sound[name] is not None]
    implied = {name for name, names in _IMPLIED.items() if name in null for name in names}
    if null := [name for name in null if name not in implied]:
        words.append("null: " + ", ".join(f"`{name}`" for name in null))
    return ", ".join(words) or "sound"


def make_table(campaign: Campaign) -> str:
    """Return the table of docs/failures.md: a row a function, a column a moment."""
    lines = ["| call | codes | " + " | ".join(MOMENTS) + " |", "|---" * (2 + len(MOMENTS)) + "|"]
    rows = [(function, USUAL_GPU, f"`{function}`") for function in CODES_OF]
    rows += [(function, OLD_DRIVER, f"`{function}` on an old driver") for function in OLD_CALLS]
    rows += [(function, gpu, f"`{function}` on `--gpu {gpu}`") for function, gpu in POLLED_ON.items()]
    for function, gpu, name in rows:
        cells = [_describe_cell(campaign, function, gpu, moment) for moment in MOMENTS]
        codes = (CODES_OF | OLD_CALLS)[function]
        lines.append(f"| {name} | {', '.join(map(str, codes))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_cell(campaign: Campaign, function: str, gpu: str, moment: str) -> str:
    """Return the consequences of most codes, then those of the other codes."""
    codes_by_words: dict[str, list[int]] = defaultdict(list)
    for case, outcome in campaign.outcomes.items():
        if (case.function, case.gpu, case.moment) == (function, gpu, moment):
            codes_by_words[describe(outcome, campaign.sound[gpu, moment])].append(case.code)
    if not codes_by_words:
        return "not called"
    usual, *others = sorted(codes_by_words, key=lambda words: -len(codes_by_words[words]))
    return "<br>".join([usual, *(f"{', '.join(map(str, codes_by_words[words]))}: {words}" for words in others)])


def read_table() -> str:
    """Return the table that docs/failures.md holds."""
    return DOCUMENT.read_text().partition(_BEGIN)[2].partition(_END)[0].strip()


def write_table(table: str) -> None:
    """Put a table into docs/failures.md."""
    before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    DOCUMENT.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_table(make_table(run_campaign(Path(scratch) / "run")))
