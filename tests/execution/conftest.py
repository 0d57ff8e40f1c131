import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.execution.driver.cluster import find_gpu_groups, ray_session
from runner.execution.driver.manifest import RunOptions
from runner.results.live import SweepView
from runner.results.run_directory import RunStore
from runner.spec.sweep import load_sweep
from runner.spec.trial import expand_trials
from tests.execution.fake_hub import FakeHub, serve_hub
from tests.execution.sweep_process import SweepProcess

if TYPE_CHECKING:
    from tests.execution.small_study import SmallStudy

SWEEP = """
name = "{name}"
repeats = {repeats}
min_window_s = {min_window_s}
axes = {{ concurrency = {concurrency}, sm_clock = {sm_clock} }}
{models}
[[task]]
name = "synthetic"
num_prompt_tokens = 64
num_output_tokens = {num_output_tokens}
num_requests = {num_requests}
"""
MODEL = '[[model]]\nid = "shapes/llama-3.2-1b"\ntwin = "llama-3.2-1b"\n'

WriteSweep = Callable[..., Path]


@pytest.fixture
def write_sweep(tmp_path: Path) -> WriteSweep:
    """Write a small sweep file: one block of four trials, unless a test changes it."""

    def write(**changes: object) -> Path:
        values: dict[str, object] = {
            "name": "small",
            "repeats": 1,
            "min_window_s": 2.0,
            "concurrency": [2],
            "sm_clock": '["default", "60%"]',
            "models": MODEL,
            "num_output_tokens": 16,
            "num_requests": 8,
        }
        path = tmp_path / f"{values['name']}.toml"
        path.write_text(SWEEP.format(**(values | changes)))
        return path

    return write


@pytest.fixture
def start_sweep(tmp_path: Path) -> Iterator[Callable[..., SweepProcess]]:
    """Start `sweep run FILE OPTIONS...` with GPUs, leases and run directory under tmp_path."""
    started: list[SweepProcess] = []

    def start(file: Path, *options: str, **changes: str) -> SweepProcess:
        started.append(SweepProcess(file, tmp_path / "run", tmp_path, *options, **changes))
        return started[-1]

    yield start
    for sweep_process in started:
        sweep_process.end()


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> "SmallStudy":
    """The study in small, run once for the two modules that look at its results."""
    from tests.execution.small_study import run_small_study

    return run_small_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """Start Ray once for all tests that do not kill it. Returns: the folder of its GPUs and leases."""
    with tempfile.TemporaryDirectory(prefix="joulesweep-test-") as folder, pytest.MonkeyPatch.context() as patch:
        state = Path(folder)
        patch.setenv("SWEEP_SIMULATED_STATE", str(state / "gpus"))
        patch.setenv("SWEEP_LEASE_DIR", str(state / "leases"))
        for name in ("RAY_ADDRESS", "SWEEP_CLOCKS", "PYTHONDONTWRITEBYTECODE"):
            patch.delenv(name, raising=False)
        with ray_session(None):
            yield state


@pytest.fixture
def address(cluster: Path) -> str:
    """The address of that Ray."""
    import ray

    return ray.get_runtime_context().gcs_address


@pytest.fixture
def run_here(cluster: Path, tmp_path: Path) -> Callable[..., object]:
    """Run a sweep in this process, on that Ray. Returns: its outcome."""
    from runner.execution.driver.run import run_sweep
    from runner.results.outcome import RunOutcome

    def run(
        file: Path, *, gpu: str = "sim", read_only: bool = False, show: Callable[[SweepView], None] = lambda _: None
    ) -> RunOutcome:
        sweep = load_sweep(file)
        with RunStore(tmp_path / "run") as store:
            return run_sweep(
                sweep,
                expand_trials(sweep, read_only=read_only),
                find_gpu_groups(gpu, None),
                store=store,
                options=RunOptions(engine="simulated", read_only=read_only),
                show=show,
            )

    return run


@pytest.fixture(autouse=True)
def _no_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_CLOCKS", "RAY_ADDRESS", "SWEEP_SIMULATED_PERMISSION"):
        monkeypatch.delenv(name, raising=False)
    assert "SWEEP_CLOCKS" not in os.environ


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serve_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub
