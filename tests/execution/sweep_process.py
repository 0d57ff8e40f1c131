"""`sweep run` as a process with its own state, which tests can watch, signal and kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from runner.hardware.clocks.processes import find_marked
from runner.physics.gpu_state import Activity, GpuState

MARK = "SWEEP_TEST_RUN"
"""A variable that every process of a run inherits: the driver, Ray's own, actors, guards."""


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> bool:
    """Return whether a condition comes true. The limit is long enough for a busy machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


class SweepProcess:
    """A `sweep run` in a session of its own, as a terminal starts it."""

    def __init__(self, file: Path, directory: Path, state: Path, *options: str, engine: str = "simulated") -> None:
        self.directory = directory
        self.state = state
        self.mark = uuid.uuid4().hex
        self._output = directory.parent / f"{directory.name}-{self.mark}.txt"
        command = [sys.executable, "-m", "runner.cli", "run", str(file), "--plain", "--gpu", "sim"]
        command += ["--out", str(directory), "--engine", engine, *options]
        dropped = ("RAY_ADDRESS", "SWEEP_CLOCKS", "PYTHONDONTWRITEBYTECODE")  # Ray compiles itself six times without
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment |= {MARK: self.mark, "SWEEP_SIMULATED_STATE": str(state / "gpus")}
        environment |= {"SWEEP_LEASE_DIR": str(state / "leases"), "COLUMNS": "200"}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait(self, seconds: float = 600.0) -> int:
        """Return the exit code as a shell shows it. The limit ends a run that hangs; slow machines need less.

        Where a signal interrupts an `exec`, as many imports have it, Python ends by SIGINT instead of with 130.
        """
        code = self.process.wait(seconds)
        return code if code >= 0 else 128 - code

    def wait_for(self, text: str) -> None:
        """Wait until the output contains a text."""
        assert wait_until(lambda: text in self.output or self.process.poll() is not None), self.output
        assert text in self.output, self.output

    def interrupt(self) -> None:
        """Send what Ctrl-C sends: SIGINT to the whole foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to the driver alone."""
        self.process.kill()
        self.process.wait()

    def find_child(self, name: str) -> psutil.Process:
        """Return the one descendant of the driver whose name starts so."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # some processes of Ray last for a moment only
                found += [process] if process.name().startswith(name) else []
        (child,) = found
        return child

    def living(self) -> list[str]:
        """Return the command lines of the run's processes that still live."""
        names = []
        for found in find_marked(MARK, self.mark):
            with contextlib.suppress(psutil.Error):
                names.append(" ".join(psutil.Process(found.pid).cmdline())[:120])
        return names

    def end(self) -> None:
        """Kill every process of the run that still lives."""
        for found in find_marked(MARK, self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
        self.process.wait()


def virtual_settings(state: Path, number: int = 0) -> list[tuple[int | None, float | None]]:
    """Return every (SM clock, power limit) that a virtual GPU was set to, oldest first."""
    history = GpuState(state / "gpus" / f"virtual-{number}" / "GPU-SIM-H200-0").settings_history()
    return [(settings.sm_clock_mhz, settings.power_limit_w) for settings in history]


def at_work_s(activity: Sequence[Activity], row: dict[str, Any]) -> float:
    """Return how long a simulated GPU worked in a trial's window, in s, by its log of activity."""
    start_ns, end_ns = row["start_ns"], row["start_ns"] + round(row["duration_s"] * 1e9)
    return sum(max(min(a.end_ns, end_ns) - max(a.start_ns, start_ns), 0) for a in activity) / 1e9


def longest_unseen_s(directory: Path, row: dict[str, Any], name: str) -> float:
    """Return the longest time in a trial's window, in s, in which no row of its trace holds a reading of a column."""
    start_ns, end_ns = row["start_ns"], row["start_ns"] + round(row["duration_s"] * 1e9)
    readings = pl.read_parquet(directory / "power" / f"{row['trial_id']}.parquet").drop_nulls(name)
    seen_ns = readings.filter(pl.col("time_ns").is_between(start_ns, end_ns))["time_ns"].sort()
    return max(later - earlier for earlier, later in pairwise([start_ns, *seen_ns, end_ns])) / 1e9


def read_events(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def read_manifest(directory: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return manifest


def read_rows(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the finished trials' rows by id. It reads every Parquet file, so that a broken one raises."""
    for path in directory.rglob("[!.]*.parquet"):
        pl.read_parquet(path)
    paths = sorted((directory / "trials").glob("[!.]*.parquet"))
    return {path.stem: pl.read_parquet(path).to_dicts()[0] for path in paths}
