"""The Python interface: light to import, and its documented example runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runner

ROOT = Path(__file__).parents[1]
HEAVY = ("polars", "pydantic", "ray", "torch", "vllm", "rich", "numpy", "lm_eval")


def run_python(program: str, cwd: Path, **environment: str) -> str:
    import os

    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_import_runner_imports_nothing_heavy(tmp_path):
    program = f"import json, sys, runner; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(run_python(program, tmp_path)) == []


def test_the_interface_is_what_it_says():
    assert set(runner.__all__) >= {"load_sweep", "plan_sweep", "run_sweep", "open_run"}
    assert all(callable(getattr(runner, name)) for name in ("load_sweep", "plan_sweep", "run_sweep", "open_run"))
    with pytest.raises(AttributeError, match="no attribute 'run_sweeps'"):
        runner.run_sweeps  # noqa: B018


@pytest.mark.slow
def test_the_documented_study_runs(tmp_path):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert program.count("\n") <= 28, "docs/python.md promises a study in about twenty lines"
    output = run_python(
        program,
        tmp_path,
        SWEEP_SIMULATED_STATE=str(tmp_path / "gpus"),
        SWEEP_LEASE_DIR=str(tmp_path / "leases"),
        RAY_ADDRESS="",
        SWEEP_CLOCKS="",
    )
    assert "44 of 44 trials ended well" in output
    assert "mistral-7b" in output
    assert (tmp_path / "runs" / "notebook" / "trials.parquet").is_file()


def test_open_run_names_what_is_missing(tmp_path):
    from runner.results.run_directory import RunDirectoryError

    with pytest.raises(RunDirectoryError, match="holds no run"):
        runner.open_run(tmp_path)
