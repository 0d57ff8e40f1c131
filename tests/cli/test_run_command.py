"""What `sweep run` says: its version, a directory that holds another sweep, and what an interrupted run leaves."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from runner import __version__
from runner.cli import app
from runner.cli.run import _say_what_is_kept
from runner.results.outcome import RunOutcome
from runner.results.run_directory import RunStore
from runner.results.tables import POWER, REQUESTS
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials

SWEEP = """
name = "{name}"
repeats = {repeats}
min_window_s = {window_s}
[[model]]
id = "shapes/llama-3.2-1b"
[[task]]
name = "synthetic"
num_prompt_tokens = {num_prompt_tokens}
num_output_tokens = 16
num_requests = 8
[axes]
concurrency = 2
"""


@pytest.fixture
def write_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(tmp_path / "leases"))
    for name in ("SWEEP_CLOCKS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)

    def write(**changes: object) -> Path:
        values = {"name": "one", "repeats": 1, "window_s": 2.0, "num_prompt_tokens": 64} | changes
        path = tmp_path / f"{values['name']}.toml"
        path.write_text(SWEEP.format(**values))
        return path

    return write


def fill(directory: Path, file: Path) -> int:
    """Put a finished run of a sweep file into a directory; returns the number of its trials."""
    import tomllib

    sweep = parse_sweep(tomllib.loads(file.read_text()))
    trials = [trial for block in expand_trials(sweep) for trial in block.trials]
    with RunStore(directory) as store:
        options = {"engine": "simulated", "read_only": False, "command": "sweep run"}
        store.write_manifest({"sweep": sweep.model_dump(mode="json"), "options": options, "runs": []})
        for trial in trials:
            row = {"trial_id": trial.trial_id, "block_id": trial.block_id, "status": "ok", "attempt": 1, "start_ns": 1}
            store.write_trial(row, pl.DataFrame(schema=REQUESTS), pl.DataFrame(schema=POWER))
    return len(trials)


def run(file: Path, directory: Path, *options: str):
    arguments = ["run", str(file), "--gpu", "sim", "--engine", "simulated", "--out", str(directory), *options]
    return CliRunner().invoke(app, arguments)


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"joulesweep {__version__}\n")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"joulesweep {__version__}\n")


def test_a_directory_that_holds_another_sweep_is_refused_and_kept(write_sweep, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", lambda _: pytest.fail("Ray was started"))
    num_trials = fill(tmp_path / "run", write_sweep(name="one"))
    result = run(write_sweep(name="two", num_prompt_tokens=65), tmp_path / "run")
    assert result.exit_code == 2
    assert f'holds sweep "one": {num_trials} finished trials' in result.output
    assert "--out" in result.output
    assert "--fresh" in result.output
    assert len(list((tmp_path / "run" / "trials").glob("*.parquet"))) == num_trials


def test_a_sweep_file_that_grew_goes_on_in_its_directory(write_sweep, tmp_path, monkeypatch) -> None:
    class WentOnError(Exception):
        pass

    def go_on(_: object) -> None:
        raise WentOnError

    fill(tmp_path / "run", write_sweep(repeats=1))
    monkeypatch.setattr("runner.execution.driver.cluster.ray_session", go_on)
    assert isinstance(run(write_sweep(repeats=2), tmp_path / "run").exception, WentOnError)
    # Nor is a directory refused in which nothing is finished.
    fill(tmp_path / "empty", write_sweep())
    for path in (tmp_path / "empty" / "trials").glob("*.parquet"):
        path.unlink()
    other = write_sweep(name="two", num_prompt_tokens=65)
    assert isinstance(run(other, tmp_path / "empty").exception, WentOnError)


def test_another_version_of_a_sweep_is_called_so(write_sweep, tmp_path) -> None:
    fill(tmp_path / "run", write_sweep(window_s=2.0))
    result = run(write_sweep(window_s=3.0), tmp_path / "run")
    assert result.exit_code == 2
    assert 'another version of sweep "one"' in result.output


@pytest.mark.parametrize(
    ("not_restored", "said"),
    [((), "clocks and power limits are as they were"), (("0", "2"), "clocks are NOT back on GPU 0, 2: sweep doctor")],
)
def test_an_interrupted_run_says_what_is_kept_and_whether_clocks_are_back(capsys, monkeypatch, not_restored, said):
    monkeypatch.setattr(sys, "argv", ["sweep", "run", "sweeps/demo.toml", "--fresh", "--gpu", "all"])
    outcome = RunOutcome(num_ok=12, num_in_sweep=33, interrupted=True, not_restored=not_restored)
    _say_what_is_kept(outcome, Path("runs/demo"))
    kept, to_go_on, to_see, clocks = capsys.readouterr().out.splitlines()
    assert kept == "interrupted: 12 of 33 trials are finished and kept in runs/demo"
    assert to_go_on == "to resume: sweep run sweeps/demo.toml --gpu all"
    assert to_see == "to see the results: sweep report runs/demo"
    assert said in clocks
