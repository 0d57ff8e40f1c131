import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.hardware.clocks.processes import is_alive
from runner.hardware.clocks.recovery import LEASE_VARIABLE
from tests.hardware.owners import Owner


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "leases").mkdir()
    return tmp_path / "gpus", tmp_path / "leases"


@pytest.fixture(autouse=True)
def _own_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep an unreleased lease of one test from marking the processes of later tests."""
    monkeypatch.setenv(LEASE_VARIABLE, "")


@pytest.fixture
def start_owner(folders: tuple[Path, Path]) -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def start(mode: str = "apply", drivers: tuple[int, ...] = ()) -> Owner:
        owners.append(Owner(*folders, mode, drivers))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()
        for process in (owner.guard, owner.marked, owner.forked):
            if process is not None and is_alive(process):
                os.kill(process.pid, signal.SIGKILL)
