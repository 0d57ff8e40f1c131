"""The kill campaign: real sweeps, SIGKILL at random moments, and what is left afterwards. `make kill-campaign`.

    python tests/execution/kill_campaign.py [--kills 190] [--real-kills 10] [--seed 0]

Drivers, workers, guards and aggregators (with real vLLM also its engine) are killed, several in one sweep, which is
run again until it is complete. After each kill: no lock, no lease, no process is left of what died, and every file can
be read; in the end the sweep has the trials of an undisturbed one, and none was run again after it had been finished.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil

from runner.execution.driver.cluster import ray_session
from runner.hardware.clocks.journal import LeaseJournal, read_journal
from runner.hardware.clocks.processes import ProcessId, find_descendants, find_marked, identify_process, is_alive
from runner.hardware.clocks.recovery import GUARD_MODULE, LEASE_VARIABLE
from runner.physics.gpu_state import GpuState
from runner.spec.sweep import load_sweep
from runner.spec.trial import MAX_ATTEMPTS, expand_trials, make_row_id
from tests.execution.sweep_process import SweepProcess, read_events, read_rows, wait_until

MODEL = Path(__file__).parents[2] / "models" / "joulesweep-small"
SIMULATED = """
name = "campaign"
repeats = 5
min_window_s = 4.0
axes = { concurrency = [1, 2], sm_clock = ["default", { spaced = 8 }] }
[[model]]
id = "shapes/llama-3.2-1b"
twin = "llama-3.2-1b"
[[task]]
name = "synthetic"
num_prompt_tokens = 64
num_output_tokens = 16
num_requests = 8
"""
REAL = f"""
name = "campaign-real"
repeats = 3
min_window_s = 2.0
axes = {{ concurrency = [8], sm_clock = ["default", 1215, 795] }}
[[model]]
id = "{MODEL}"
twin = "qwen2.5-32b"
engine = {{ max_model_len = 512, max_num_batched_tokens = 1024, dtype = "float32" }}
[[task]]
name = "tiny_qa"
limit = 40
"""
WEIGHTS = {"driver": 2, "worker": 4, "guard": 3, "aggregator": 1}
REAL_WEIGHTS = {"driver": 2, "worker": 3, "engine": 3, "guard": 2}
LEFT_LIMIT_S = 30.0
"""A process or lease that is still there after this time counts as left behind."""
PROMISE_S = 2.0
DRIVER_START_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL and its consequences."""

    kind: str
    was_locked: bool
    restored_s: float | None
    """Seconds until the lease was settled and the victim's processes had ended. For a guard, until it was replaced.
    None where there was no lease, or nothing to wait for."""


@dataclass(kw_only=True)
class Campaign:
    """The part of one engine: its sweep, its weights, and the violations so far."""

    state: Path
    address: str
    sweep: str
    engine: str
    weights: dict[str, int]
    moments_s: float
    """The longest time between finding a victim and killing it. A worker is found once it has its lease."""
    rng: random.Random
    kills: list[Kill] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    num_sweeps: int = 0
    num_resumed: int = 0

    def run(self, num_kills: int) -> None:
        """Run sweeps until there were `num_kills` kills and the last sweep is complete."""
        while len(self.kills) < num_kills:
            self._run_sweep(min(self.rng.randint(8, 14), num_kills - len(self.kills)))
            print(f"  {self.engine}: {len(self.kills)} kills in {self.num_sweeps} sweeps", flush=True)

    def _run_sweep(self, num_kills: int) -> None:
        self.num_sweeps += 1
        directory = self.state / f"{self.engine}-{self.num_sweeps}"
        file = self.state / f"{self.engine}.toml"
        file.write_text(self.sweep)
        finished: dict[str, tuple[int, int]] = {}
        goal = len(self.kills) + num_kills
        for _ in range(4 * num_kills + 4):
            run = SweepProcess(file, directory, self.state, "--address", self.address, engine=self.engine)
            self.num_resumed += 1
            while len(self.kills) < goal and run.process.poll() is None:
                self._kill_one(run)
                self._check_files(directory, finished)
            code = run.wait(600)
            self._check_end(run)
            self._check_files(directory, finished)
            if code == 0:
                break
        else:
            self.violations.append(f"{directory.name} was never complete")
            return
        self._check_complete(directory, file, finished)

    # kills -----------------------------------------------------------------------------------------------------------

    def _kill_one(self, run: SweepProcess) -> None:
        kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]

        def is_there() -> bool:
            return run.process.poll() is not None or self._find(kind, run) is not None

        if not wait_until(is_there, 120):
            self.violations.append(f"no {kind} after 120 s")
        time.sleep(self.rng.uniform(0.0, self.moments_s + (DRIVER_START_S if kind == "driver" else 0.0)))
        victim = self._find(kind, run)
        if victim is None or run.process.poll() is not None:
            return
        lease, household = self._lease(), self._household(self._lease())
        was_locked = lease is not None and not _is_default(Path(str(lease.state_dir)) / lease.gpu_uuid)
        start_s = time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        num_violations = len(self.violations)
        restored_s = self._await_end(kind, start_s, lease, household)
        self.kills.append(Kill(kind=kind, was_locked=was_locked, restored_s=restored_s))
        if len(self.violations) > num_violations:
            print(
                f"{self.violations[-1]}\nvictim {victim}, lives: {is_alive(victim)}\n{run.output[-2000:]}", flush=True
            )

    def _find(self, kind: str, run: SweepProcess) -> ProcessId | None:
        """Return the process to kill; None where there is none now."""
        lease = self._lease()
        match kind:
            case "driver":
                return identify_process(run.process.pid)
            case "worker":
                return lease.owners[0] if lease and is_alive(lease.owners[0]) else None
            case "engine":
                engines = [p for p in self._household(lease) if "EngineCore" in _name(p)]
                return engines[0] if engines else None
            case "guard":
                guards = _find_guards(self.state)
                return guards[0] if guards and lease else None
        return next((p for p in _find_actors(self.state) if "Aggregator" in _name(p)), None)

    def _lease(self) -> LeaseJournal | None:
        found = (read_journal(path) for path in (self.state / "leases").glob("*.json"))
        return max(filter(None, found), key=lambda journal: journal.since_ns, default=None)

    def _household(self, lease: LeaseJournal | None) -> set[ProcessId]:
        """Return the processes that depend on a worker. Its guards are no children of it."""
        if lease is None:
            return set()
        guards = set(_find_guards(self.state))
        return (find_descendants(lease.owners[:1]) | find_marked(LEASE_VARIABLE, lease.lease_id)) - guards

    def _await_end(
        self, kind: str, start_s: float, lease: LeaseJournal | None, household: set[ProcessId]
    ) -> float | None:
        if kind == "engine" or lease is None:  # the worker notices, and opens another
            return None
        if kind == "guard":
            replaced_s = _wait(lambda: bool(_find_guards(self.state)) or self._lease() is None, start_s)
            if replaced_s is None:
                self.violations.append("a guard was not replaced")
            return replaced_s

        def is_settled() -> bool:
            now = self._lease()
            return now is None or now.lease_id != lease.lease_id or not _matters(now)

        restored_s = _wait(lambda: is_settled() and not any(map(is_alive, household)), start_s)
        if restored_s is None:
            left = [_name(process) for process in household if is_alive(process)]
            self.violations.append(f"after a {kind}'s death: lease {self._lease()}, processes {left}")
        # An aggregator owns no lease: its driver notices that it is gone, and ends the run in its own time.
        elif kind != "aggregator" and restored_s > PROMISE_S:
            self.violations.append(f"after a {kind}'s death the GPU was restored after {restored_s:.2f} s")
        return restored_s

    # checks ----------------------------------------------------------------------------------------------------------

    def _check_end(self, run: SweepProcess) -> None:
        """Check that nothing of a run is left after its end."""

        def is_clean() -> bool:
            lease = self._lease()
            return not (_find_actors(self.state) or _find_guards(self.state) or (lease and _matters(lease)))

        if not wait_until(is_clean, LEFT_LIMIT_S):
            left = [_name(process) for process in (*_find_actors(self.state), *_find_guards(self.state))]
            self.violations.append(f"left after a run: {left}, {self._lease()}")
        for gpu in (self.state / "gpus").glob("**/GPU-*"):
            if not _is_default(gpu):
                self.violations.append(f"{gpu} is locked after a run")
        if "Traceback" in run.output:
            self.violations.append(f"a traceback: {run.output[-2000:]}")
        run.end()

    def _check_files(self, directory: Path, finished: dict[str, tuple[int, int]]) -> None:
        """Check that every file can be read, and that finished trials have not changed."""
        try:
            rows = read_rows(directory)
            for path in (*directory.glob("*.json"), *(self.state / "leases").glob("*.json")):
                with suppress(FileNotFoundError):
                    json.loads(path.read_text())
            if (directory / "events.jsonl").exists():
                read_events(directory)
        except (pl.exceptions.PolarsError, ValueError) as error:
            self.violations.append(f"a broken file in {directory.name}: {error}")
            return
        for trial_id, row in rows.items():
            stat = (directory / "trials" / f"{trial_id}.parquet").stat()
            mark = (stat.st_mtime_ns, stat.st_ino)
            if row["status"] == "ok" and finished.setdefault(trial_id, mark) != mark:
                self.violations.append(f"{trial_id} was written again after it had been finished")
                finished[trial_id] = mark

    def _check_complete(self, directory: Path, file: Path, finished: dict[str, tuple[int, int]]) -> None:
        expected = {trial.trial_id for block in expand_trials(load_sweep(file)) for trial in block.trials}
        rows = read_rows(directory)
        attempts = range(1, MAX_ATTEMPTS + 1)
        known = {make_row_id(trial_id, attempt) for trial_id in expected for attempt in attempts}
        if not expected <= rows.keys() <= known:
            self.violations.append(f"{directory.name} has other trials than an undisturbed run")
        if not finished.keys() <= rows.keys() or {row["status"] for row in rows.values()} != {"ok"}:
            self.violations.append(f"{directory.name}: finished trials are gone, or failed")
        ends = Counter(event["trial_id"] for event in read_events(directory) if event["kind"] == "trial_finished")
        if ends and max(ends.values()) > 1:
            self.violations.append(f"{directory.name}: {ends.most_common(3)} ran again after they were finished")

    def summary(self) -> str:
        """Return the summary of the campaign."""
        lines = [f"{self.engine} engine: {len(self.kills)} kills, {self.num_sweeps} sweeps, {self.num_resumed} runs"]
        for kind in self.weights:
            of_kind = [kill for kill in self.kills if kill.kind == kind]
            num_locked = sum(kill.was_locked for kill in of_kind)
            what = "replaced" if kind == "guard" else "restored"
            seconds = [kill.restored_s for kill in of_kind if kill.restored_s is not None]
            times = f"median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s" if seconds else "-"
            lines.append(f"  {kind:<10} {len(of_kind):>4} kills, {num_locked:>3} over a lock; {what}: {times}")
        lines.append(f"  violations: {len(self.violations)}")
        return "\n".join([*lines, *(f"    {violation}" for violation in self.violations)])


def _wait(condition: Callable[[], bool], start_s: float) -> float | None:
    """Return the seconds until a condition came true; None where it did not."""
    while time.monotonic() < start_s + LEFT_LIMIT_S:
        if condition():
            return time.monotonic() - start_s
        time.sleep(0.01)
    return None


def _matters(lease: LeaseJournal) -> bool:
    """Whether a worker holds the GPU or has settings to restore. A worker killed before its guard leaves neither."""
    return lease.worker_lives or bool(lease.changed)


def _is_default(gpu: Path) -> bool:
    history = GpuState(gpu).settings_history()
    return (
        not history or (history[-1].sm_clock_mhz, history[-1].mem_clock_mhz, history[-1].power_limit_w) == (None,) * 3
    )


def _find_guards(state: Path) -> list[ProcessId]:
    """Return the guards on duty for GPUs of this campaign."""
    return _find(lambda words: GUARD_MODULE in words and any(word.startswith(str(state)) for word in words))


def _find_actors(state: Path) -> list[ProcessId]:
    """Return the actors of this campaign's own Ray, which inherited its environment."""
    ours = find_marked("SWEEP_LEASE_DIR", str(state / "leases"))
    return [p for p in _find(lambda words: words[0].startswith(("ray::GpuWorker", "ray::Aggregator"))) if p in ours]


def _find(matches: Callable[[list[str]], bool]) -> list[ProcessId]:
    found = []
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            words = psutil.Process(pid).cmdline()
            process = identify_process(pid)
            if words and process is not None and matches(words):
                found.append(process)
    return found


def _name(process: ProcessId) -> str:
    try:
        return " ".join(psutil.Process(process.pid).cmdline())[:100]
    except psutil.Error:
        return ""


def main() -> int:
    """Run both parts and print their summaries. Returns: 1 if there was a violation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=190)
    parser.add_argument("--real-kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    campaigns = []
    with tempfile.TemporaryDirectory(prefix="joulesweep-kills-") as folder:
        state = Path(folder)
        os.environ |= {"SWEEP_SIMULATED_STATE": str(state / "gpus"), "SWEEP_LEASE_DIR": str(state / "leases")}
        (state / "leases").mkdir()
        with ray_session(None):
            import ray

            address = ray.get_runtime_context().gcs_address
            for engine, sweep, weights, moments_s, num_kills in (
                ("simulated", SIMULATED, WEIGHTS, 3.0, options.kills),
                ("vllm", REAL, REAL_WEIGHTS, 60.0, options.real_kills),  # of which half is loading
            ):
                campaign = Campaign(
                    state=state,
                    address=address,
                    sweep=sweep,
                    engine=engine,
                    weights=weights,
                    moments_s=moments_s,
                    rng=random.Random(f"{options.seed}/{engine}"),
                )
                campaigns.append(campaign)
                start_s = time.monotonic()
                campaign.run(num_kills)
                print(f"{campaign.summary()}\n  took {(time.monotonic() - start_s) / 60:.1f} min", flush=True)
    return 1 if any(campaign.violations for campaign in campaigns) else 0


if __name__ == "__main__":
    sys.exit(main())
