"""Leases on simulated boards, with real processes that are really killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.hardware.gpu import ClockRequest, GpuError, ReadOnlyError
from runner.hardware.journal import journal_path, read_journal
from runner.hardware.lease import ClockLease, LeaseHeldError
from runner.hardware.nvml import NvmlGpu, open_nvml
from runner.hardware.processes import identify_process, is_alive
from runner.hardware.recovery import LEASE_VARIABLE, restore_leftover
from runner.physics.board_state import BoardState
from runner.physics.clock import WallClock

OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from runner.hardware.gpu import ClockRequest
from runner.hardware.lease import ClockLease
from runner.hardware.nvml import NvmlGpu, open_nvml
from runner.physics.clock import WallClock

state_dir, journal_dir, read_only = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "read-only"
drivers = [int(pid) for pid in sys.argv[4:]]
gpu = NvmlGpu(open_nvml("sim", WallClock(), state_dir), 0, read_only=read_only)
lease = ClockLease(gpu, owner_pids=[os.getpid(), *drivers], journal_dir=journal_dir)
lease.acquire()
marked = subprocess.Popen(["sleep", "60"])
forked = os.fork()
if forked == 0:
    time.sleep(60)
    os._exit(0)
if not read_only:
    lease.apply(ClockRequest(sm_clock_mhz=1200, power_limit_w=500.0))
print(lease._guard.pid, marked.pid, forked, flush=True)
time.sleep(60)
"""


class Owner:
    """A process that holds a lease on a locked board and has two children, as an engine's parent does."""

    def __init__(self, state_dir: Path, journal_dir: Path, mode: str = "apply", drivers: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(state_dir), str(journal_dir), mode, *map(str, drivers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        pids = [int(pid) for pid in self.process.stdout.readline().split()]
        self.guard, self.marked, self.forked = (identify_process(pid) for pid in pids)
        self.worker = identify_process(self.process.pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "leases").mkdir()
    return tmp_path / "boards", tmp_path / "leases"


@pytest.fixture(autouse=True)
def _own_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that a test leaves unreleased marks no later test's processes."""
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


def open_board(folders: tuple[Path, Path], *, read_only: bool = False) -> NvmlGpu:
    return NvmlGpu(open_nvml("sim", WallClock(), folders[0]), 0, read_only=read_only)


def board_settings(folders: tuple[Path, Path]) -> tuple[int | None, float | None]:
    last = BoardState(folders[0] / "GPU-SIM-H200-0").settings_history()[-1]
    return last.sm_clock_mhz, last.power_limit_w


def path_of(folders: tuple[Path, Path]) -> Path:
    return journal_path(folders[1], "GPU-SIM-H200-0", str(folders[0]))


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for what takes some tenths of a second on a quiet machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_release_resets_what_was_set_and_the_guard_ends(folders: tuple[Path, Path]) -> None:
    gpu = open_board(folders)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        guard = lease._guard
        assert guard is not None
        assert is_alive(guard)
        journal = read_journal(path_of(folders))
        assert journal is not None
        assert (journal.changed, journal.prior_power_limit_w) == ((), 700.0)
        assert path_of(folders).stat().st_mode & 0o777 == 0o600
        lease.apply(ClockRequest(sm_clock_mhz=1200))
        assert board_settings(folders) == (1200, None)
        assert json.loads(path_of(folders).read_text())["changed"] == ["sm_clock"]
        assert lease._lease_id in os.environ[LEASE_VARIABLE]
    assert board_settings(folders) == (None, None)
    assert not path_of(folders).exists()
    assert LEASE_VARIABLE not in os.environ
    assert wait_until(lambda: not is_alive(guard))


def lock_then_interrupt(gpu: NvmlGpu, journal_dir: Path) -> None:
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=journal_dir, guarded=False) as lease:
        lease.apply(ClockRequest(sm_clock_mhz=1200))
        raise KeyboardInterrupt


def test_an_interrupt_inside_still_restores(folders: tuple[Path, Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        lock_then_interrupt(open_board(folders), folders[1])
    assert board_settings(folders) == (None, None)


def test_default_requests_change_nothing_before_a_change_and_undo_one_after(folders: tuple[Path, Path]) -> None:
    gpu = open_board(folders)
    gpu.apply(ClockRequest(power_limit_w=600.0))  # an administrator's limit
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        num_lines = len(BoardState(folders[0] / gpu.info.uuid).settings_history())
        lease.apply(ClockRequest())
        assert len(BoardState(folders[0] / gpu.info.uuid).settings_history()) == num_lines
        lease.apply(ClockRequest(sm_clock_mhz=900, power_limit_w=300.0))
        assert board_settings(folders) == (900, 300.0)
        lease.apply(ClockRequest())
        assert board_settings(folders) == (None, 600.0)
    assert board_settings(folders) == (None, 600.0)


def test_sigkill_of_the_owner_restores_the_board_and_ends_its_children(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    assert board_settings(folders) == (1200, 500.0)
    assert wait_until(lambda: len((read_journal(path_of(folders))).descendants) == 2)
    owner.kill()
    assert wait_until(lambda: board_settings(folders) == (None, None))
    assert wait_until(lambda: not path_of(folders).exists())
    assert wait_until(lambda: not any(map(is_alive, (owner.marked, owner.forked, owner.guard))))


def test_a_zombie_owner_counts_as_dead(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    owner = start_owner()
    owner.process.kill()  # and not reaped
    assert wait_until(lambda: board_settings(folders) == (None, None))


def test_death_of_the_driver_ends_the_worker_too(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    driver = subprocess.Popen(["sleep", "60"])
    owner = start_owner("apply", (driver.pid,))
    assert wait_until(lambda: len((read_journal(path_of(folders))).descendants) == 2)
    driver.kill()
    driver.wait()
    assert wait_until(lambda: board_settings(folders) == (None, None))
    assert not any(map(is_alive, (owner.worker, owner.marked, owner.forked)))


def test_read_only_lease_ends_orphans_and_sets_nothing(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner("read-only")
    owner.kill()
    assert wait_until(lambda: not path_of(folders).exists())
    assert not is_alive(owner.marked)
    assert len(BoardState(folders[0] / "GPU-SIM-H200-0").settings_history()) == 1


def test_a_guard_that_died_is_replaced_before_the_next_change(folders: tuple[Path, Path]) -> None:
    gpu = open_board(folders)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        first = lease._guard
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(first))
        lease.apply(ClockRequest(sm_clock_mhz=1200))
        assert lease._guard != first
        assert is_alive(lease._guard)


def test_guard_survives_polite_signals(folders: tuple[Path, Path]) -> None:
    with ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        assert lease._guard is not None
        os.kill(lease._guard.pid, signal.SIGTERM)
        os.kill(lease._guard.pid, signal.SIGINT)
        time.sleep(0.3)
        assert is_alive(lease._guard)


def test_a_second_owner_is_refused_by_name(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    owner = start_owner()
    with pytest.raises(LeaseHeldError, match=rf"held by process {owner.process.pid} on .* since 20"):
        ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1]).acquire()
    assert board_settings(folders) == (1200, 500.0)


def test_takeover_carries_out_what_a_dead_owner_owes(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    assert owner.guard is not None
    os.kill(owner.guard.pid, signal.SIGKILL)
    owner.kill()
    assert board_settings(folders) == (1200, 500.0)
    with ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        assert board_settings(folders) == (None, None)
        assert not is_alive(owner.marked)


def test_read_only_refuses_a_board_that_is_still_locked(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start_owner()
    os.kill(owner.guard.pid, signal.SIGKILL)
    owner.kill()
    lease = ClockLease(open_board(folders, read_only=True), owner_pids=[os.getpid()], journal_dir=folders[1])
    with pytest.raises(ReadOnlyError, match="still locked by a run that died"):
        lease.acquire()
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    assert "SWEEP_CLOCKS forbids" in restore_leftover(folders[1])[0]
    assert board_settings(folders) == (1200, 500.0)
    monkeypatch.delenv("SWEEP_CLOCKS")
    assert "; reset, " in restore_leftover(folders[1])[0]
    assert board_settings(folders) == (None, None)
    assert restore_leftover(folders[1]) == []


def test_restore_leftover_leaves_the_living_alone(folders: tuple[Path, Path]) -> None:
    with ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        lease.apply(ClockRequest(sm_clock_mhz=1200))
        assert "left alone" in restore_leftover(folders[1])[0]
        assert board_settings(folders) == (1200, None)


@pytest.mark.parametrize("field", ["boot_id", "start_ticks"])
def test_a_pid_used_again_is_not_the_owner(folders: tuple[Path, Path], field: str) -> None:
    with ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        values = json.loads(path_of(folders).read_text())
    if field == "boot_id":
        values["boot_id"] = "another boot"
    else:
        values["owners"][0][1] += 1
    path_of(folders).write_text(json.dumps(values))
    with ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        pass


def test_an_unreadable_journal_says_what_to_do(folders: tuple[Path, Path]) -> None:
    path_of(folders).write_text("{}")
    with pytest.raises(GpuError, match="then delete the file"):
        ClockLease(open_board(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False).acquire()


TWO_BOARDS = """
import os, sys, time
from pathlib import Path
from runner.hardware.gpu import ClockRequest
from runner.hardware.lease import ClockLease
from runner.hardware.nvml import NvmlGpu, open_nvml
from runner.physics.clock import WallClock

nvml = open_nvml("sim:h200x2", WallClock(), Path(sys.argv[1]))
for index in range(2):
    lease = ClockLease(NvmlGpu(nvml, index, read_only=False), owner_pids=[os.getpid()], journal_dir=Path(sys.argv[2]))
    lease.acquire()
    lease.apply(ClockRequest(sm_clock_mhz=900))
print(os.environ["SWEEP_LEASE_ID"], flush=True)
time.sleep(60)
"""


def test_guards_of_two_boards_of_one_owner_let_each_other_finish(folders: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", TWO_BOARDS, str(folders[0]), str(folders[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert len(owner.stdout.readline().split()) == 2
        owner.kill()
    boards = [BoardState(folders[0] / f"GPU-SIM-H200-{i}") for i in range(2)]
    assert wait_until(lambda: all(board.settings_history()[-1].sm_clock_mhz is None for board in boards))
    assert wait_until(lambda: not list(folders[1].glob("*.json")))


def test_guard_imports_nothing_heavy() -> None:
    code = "import sys, runner.hardware.guard; print({'polars', 'pydantic', 'ray', 'numpy'} & {*sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
