"""The guard of a lease: what happens when an owner or the guard itself is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runner.hardware.clocks import guard as guard_module
from runner.hardware.clocks.journal import read_journal, write_journal
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.clocks.processes import identify_process, is_alive
from runner.hardware.clocks.recovery import GUARD_MODULE
from runner.hardware.gpu import GpuError
from runner.physics.gpu_state import GpuState
from runner.spec.operating_point import OperatingPoint
from tests.hardware.owners import Owner, gpu_settings, open_gpu, path_of, wait_until

RESTORE_S = 2.0
"""Time in which a GPU must be free after a kill. The sum of the guard's periods is less."""
NUM_KILLS = 5
"""Tries until one kill is answered in time. A busy machine adds seconds to some."""


def test_sigkill_of_the_owner_restores_the_gpu_and_ends_its_children(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    assert gpu_settings(folders) == (1200, 500.0)
    assert wait_until(lambda: len((read_journal(path_of(folders))).descendants) == 2)
    owner.kill()
    assert wait_until(lambda: gpu_settings(folders) == (None, None))
    assert wait_until(lambda: not path_of(folders).exists())
    assert wait_until(lambda: not any(map(is_alive, (owner.marked, owner.forked, owner.guard))))


@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_the_gpu_is_restored_within_the_promised_time(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], victim: str
) -> None:
    def seconds_to_restore() -> float:
        """Return the time from a kill to the last setting, by the GPU's own record."""
        driver = subprocess.Popen(["sleep", "600"])
        try:
            owner = start_owner("apply", (driver.pid,))
            killed_ns = time.time_ns()
            (owner.process if victim == "worker" else driver).kill()
            assert wait_until(lambda: gpu_settings(folders) == (None, None))
            assert wait_until(lambda: not path_of(folders).exists())  # so that the next try may take the GPU
        finally:
            driver.kill()
            driver.wait()
        return (GpuState(folders[0] / "GPU-SIM-H200-0").settings_history()[-1].time_ns - killed_ns) / 1e9

    assert any(seconds_to_restore() < RESTORE_S for _ in range(NUM_KILLS))


def test_a_zombie_owner_counts_as_dead(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    owner = start_owner()
    owner.process.kill()  # and not reaped
    assert wait_until(lambda: gpu_settings(folders) == (None, None))


def test_death_of_the_driver_ends_the_worker_too(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    driver = subprocess.Popen(["sleep", "600"])
    owner = start_owner("apply", (driver.pid,))
    assert wait_until(lambda: len((read_journal(path_of(folders))).descendants) == 2)
    driver.kill()
    driver.wait()
    assert wait_until(lambda: gpu_settings(folders) == (None, None))
    assert wait_until(lambda: not any(map(is_alive, (owner.worker, owner.marked, owner.forked))))


def test_read_only_lease_ends_orphans_and_sets_nothing(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner("read-only")
    owner.kill()
    assert wait_until(lambda: not path_of(folders).exists())
    assert wait_until(lambda: not is_alive(owner.marked))
    assert len(GpuState(folders[0] / "GPU-SIM-H200-0").settings_history()) == 1


def test_a_guard_that_died_is_replaced_before_the_next_change(folders: tuple[Path, Path]) -> None:
    gpu = open_gpu(folders)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        first = lease._guard
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(first))
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
        assert lease._guard != first
        assert is_alive(lease._guard)


def test_guard_survives_polite_signals(folders: tuple[Path, Path]) -> None:
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        assert lease._guard is not None
        os.kill(lease._guard.pid, signal.SIGTERM)
        os.kill(lease._guard.pid, signal.SIGINT)
        time.sleep(0.3)
        assert is_alive(lease._guard)


def test_a_guard_that_dies_in_a_long_window_is_replaced_and_its_successor_restores(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()  # it sets nothing more, and only waits
    assert owner.guard is not None

    def guards() -> list[int]:
        words = str(path_of(folders)).encode()
        return [int(p.name) for p in Path("/proc").glob("[0-9]*") if words in read_command(p) and is_guard(p)]

    os.kill(owner.guard.pid, signal.SIGKILL)
    assert wait_until(lambda: len(set(guards()) - {owner.guard.pid}) == 1)
    owner.kill()
    assert wait_until(lambda: gpu_settings(folders) == (None, None))
    assert wait_until(lambda: not is_alive(owner.marked))
    assert wait_until(lambda: not guards())


def read_command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def is_guard(process: Path) -> bool:
    """Return whether it watches: the shell that started it has ended."""
    found = identify_process(int(process.name))
    try:
        return found is not None and os.getsid(found.pid) != found.pid
    except ProcessLookupError:
        return False


def test_a_guard_whose_starter_died_before_it_came_on_duty_restores_all_the_same(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    journal = read_journal(path_of(folders))
    assert journal is not None
    owner.kill_with_guard()
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", GUARD_MODULE, str(path_of(folders)), journal.lease_id]
    subprocess.run(command, stdout=write_end, check=True, timeout=300)
    os.close(write_end)
    assert gpu_settings(folders) == (None, None)
    assert not path_of(folders).exists()


def test_a_guard_on_a_full_disk_stays_on_duty_and_knows_the_children(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start_owner()
    path = path_of(folders)
    assert wait_until(lambda: len(read_journal(path).descendants) == 2)
    os.kill(owner.guard.pid, signal.SIGSTOP)  # alive, so that no other guard replaces it
    journal = read_journal(path)
    write_journal(path, replace(journal, descendants=()))
    has_looked = threading.Event()

    def fail(*_: object) -> None:
        has_looked.set()
        raise GpuError("no space left")

    monkeypatch.setattr(guard_module, "write_journal", fail)
    with ThreadPoolExecutor() as thread:
        watching = thread.submit(guard_module.watch, path, journal.lease_id)
        assert has_looked.wait(120.0)
        owner.kill_with_guard()
        last = watching.result(120.0)
    assert {owner.marked, owner.forked} <= set(last.descendants)


def test_a_journal_spoilt_after_the_owners_death_is_carried_out_as_the_guard_knows_it(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    journal = read_journal(path_of(folders))
    owner.kill_with_guard()
    path_of(folders).write_text("")
    guard_module.recover(path_of(folders), journal)
    assert gpu_settings(folders) == (None, None)
    assert not path_of(folders).exists()


def test_what_the_owner_set_just_before_it_died_is_put_back(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    """On a busy machine the guard may read the journal, and see much later that the owner has died meanwhile."""
    owner = start_owner()
    journal = read_journal(path_of(folders))
    assert journal is not None
    assert journal.changed
    owner.kill_with_guard()
    guard_module.recover(path_of(folders), replace(journal, changed=()))
    assert gpu_settings(folders) == (None, None)
    assert not path_of(folders).exists()


def test_a_lease_that_set_nothing_resets_nothing(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    open_gpu(folders).apply(OperatingPoint(sm_clock_mhz=990, power_limit_w=600.0))  # an administrator's settings
    num_settings = len(GpuState(folders[0] / "GPU-SIM-H200-0").settings_history())
    owner = start_owner("default")
    owner.kill()
    assert wait_until(lambda: not path_of(folders).exists())
    assert wait_until(lambda: not is_alive(owner.marked))
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        lease.apply(OperatingPoint())
    assert len(GpuState(folders[0] / "GPU-SIM-H200-0").settings_history()) == num_settings
    assert gpu_settings(folders) == (990, 600.0)


def test_the_gpu_is_restored_before_engines_that_may_take_long_to_end(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start_owner()
    journal = read_journal(path_of(folders))
    assert journal is not None
    owner.kill_with_guard()
    seen = []
    monkeypatch.setattr(guard_module, "end_orphans", lambda _: seen.append(gpu_settings(folders)))
    guard_module.recover(path_of(folders), journal)
    assert seen == [(None, None)]
    assert not path_of(folders).exists()


def test_the_out_of_memory_killer_takes_a_guard_no_sooner_than_others(folders: tuple[Path, Path]) -> None:
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    score.write_text("500")  # as Ray does with its workers
    try:
        with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
            assert lease._guard is not None
            assert int(Path(f"/proc/{lease._guard.pid}/oom_score_adj").read_text()) <= 0
    finally:
        score.write_text(before)


TWO_GPUS = """
import os, sys, time
from pathlib import Path
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.factory import open_gpu
from runner.spec.operating_point import OperatingPoint
from runner.timebase import WallTime

for index in range(2):
    gpu = open_gpu("sim:h200x2", index, WallTime(), read_only=False, state_dir=Path(sys.argv[1]))
    lease = ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=Path(sys.argv[2]))
    lease.acquire()
    lease.apply(OperatingPoint(sm_clock_mhz=900))
print(os.environ["SWEEP_LEASE_ID"], flush=True)
time.sleep(600)
"""


def test_guards_of_two_gpus_of_one_owner_let_each_other_finish(folders: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", TWO_GPUS, str(folders[0]), str(folders[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert len(owner.stdout.readline().split()) == 2
        owner.kill()
    gpus = [GpuState(folders[0] / f"GPU-SIM-H200-{i}") for i in range(2)]
    assert wait_until(lambda: all(gpu.settings_history()[-1].sm_clock_mhz is None for gpu in gpus))
    assert wait_until(lambda: not list(folders[1].glob("*.json")))


def test_guard_imports_nothing_heavy() -> None:
    code = "import sys, runner.hardware.clocks.guard; print({'polars', 'pydantic', 'ray', 'numpy'} & {*sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
