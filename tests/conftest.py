import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runner.inference.vllm.engine import VllmEngine
    from tests.engines import SharedEngines


def pytest_configure() -> None:
    """Let tests receive Ctrl-C where pytest runs in the background, whose shell makes every process ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW = (
    "execution/",  # most start Ray, or measure whole trials in virtual time
    "test_interface.py",  # runs a study
    "cli/",  # start processes; so do the next three
    "hardware/clocks/",
    "hardware/test_doctor.py",
    "inference/server/",
    "display/plots/",  # draw whole plots and pages; so do the next three
    "display/report/test_page.py",
    "display/report/test_exports.py",
    "display/report/test_build.py",
    "hardware/simulated/",  # compare long simulations
    "hardware/sensors/",
    "benchmarks/test_accuracy.py",
    "analysis/run/test_intervals.py",  # statistics over thousands of made runs
    "analysis/inputs/test_coefficients.py",
    "analysis/inputs/test_correlation.py",
    "inference/test_arrivals.py",  # import vLLM; so does the next one
    "inference/vllm/test_engine.py",
    "tasks/test_small_models.py",  # torch computes with the models
    "tasks/own/",  # import the harness; so do the next three
    "tasks/study/",
    "tasks/harness/test_index.py",
    "tasks/harness/test_scoring.py",
)
"""Folders and modules that `make test-fast` leaves out, below tests/."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and run the tests that end a shared engine after those that share it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("ends_engine") is not None)


@pytest.fixture(scope="session")
def shared_engines() -> Iterator["SharedEngines"]:
    from tests.engines import SharedEngines

    engines = SharedEngines()
    yield engines
    engines.close()


@pytest.fixture
def small_engine(shared_engines: "SharedEngines") -> "VllmEngine":
    """The shared engine of the small model."""
    return shared_engines.small()
