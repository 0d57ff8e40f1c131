"""Leases on simulated GPUs, with real processes that are killed."""

import errno
import json
import os
import pwd
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.hardware.clocks.gpu_lock import find_locker
from runner.hardware.clocks.journal import read_journal, read_sound_journal, write_journal
from runner.hardware.clocks.lease import ClockLease, LeaseHeldError
from runner.hardware.clocks.processes import is_alive
from runner.hardware.clocks.recovery import LEASE_VARIABLE, restore_leftover
from runner.hardware.gpu import Gpu, GpuError, NotSupportedError, ReadOnlyError
from runner.physics.gpu_state import GpuState
from runner.spec.operating_point import OperatingPoint
from tests.hardware.owners import Owner, gpu_settings, open_gpu, path_of, wait_until


def test_release_resets_what_was_set_and_the_guard_ends(folders: tuple[Path, Path]) -> None:
    gpu = open_gpu(folders)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1]) as lease:
        guard = lease._guard
        assert guard is not None
        assert is_alive(guard)
        journal = read_journal(path_of(folders))
        assert journal is not None
        assert (journal.changed, journal.prior_power_limit_w) == ((), 700.0)
        assert path_of(folders).stat().st_mode & 0o777 == 0o600
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
        assert gpu_settings(folders) == (1200, None)
        assert json.loads(path_of(folders).read_text())["changed"] == ["sm_clock"]
        assert lease._lease_id in os.environ[LEASE_VARIABLE]
    assert gpu_settings(folders) == (None, None)
    assert not path_of(folders).exists()
    assert LEASE_VARIABLE not in os.environ
    assert wait_until(lambda: not is_alive(guard))


def lock_then_interrupt(gpu: Gpu, journal_dir: Path) -> None:
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=journal_dir, guarded=False) as lease:
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
        raise KeyboardInterrupt


def test_an_interrupt_inside_still_restores(folders: tuple[Path, Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        lock_then_interrupt(open_gpu(folders), folders[1])
    assert gpu_settings(folders) == (None, None)


def test_default_requests_change_nothing_before_a_change_and_undo_one_after(folders: tuple[Path, Path]) -> None:
    gpu = open_gpu(folders)
    gpu.apply(OperatingPoint(power_limit_w=600.0))  # an administrator's limit
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        num_lines = len(GpuState(folders[0] / gpu.info.uuid).settings_history())
        lease.apply(OperatingPoint())
        assert len(GpuState(folders[0] / gpu.info.uuid).settings_history()) == num_lines
        lease.apply(OperatingPoint(sm_clock_mhz=900, power_limit_w=300.0))
        assert gpu_settings(folders) == (900, 300.0)
        lease.apply(OperatingPoint())
        assert gpu_settings(folders) == (None, 600.0)
    assert gpu_settings(folders) == (None, 600.0)


def test_what_a_lease_did_not_set_it_does_not_reset(folders: tuple[Path, Path]) -> None:
    gpu = open_gpu(folders)
    gpu.apply(OperatingPoint(mem_clock_mhz=2201, power_limit_w=600.0))  # an administrator's settings
    state = GpuState(folders[0] / gpu.info.uuid)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        lease.apply(OperatingPoint(sm_clock_mhz=900))
        lease.apply(OperatingPoint())
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
    assert {settings.mem_clock_mhz for settings in state.settings_history()[2:]} == {2201}
    assert gpu_settings(folders) == (None, 600.0)
    assert state.settings_history()[-1].mem_clock_mhz == 2201


def test_a_limit_that_could_not_be_put_back_is_not_set(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = open_gpu(folders)
    monkeypatch.setattr(gpu, "read_power_limit_w", lambda: None)
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        with pytest.raises(NotSupportedError, match="could not be put back"):
            lease.apply(OperatingPoint(power_limit_w=300.0))
        with pytest.raises(ValueError, match="1201 MHz"):
            lease.apply(OperatingPoint(sm_clock_mhz=1201))
        assert read_journal(path_of(folders)).changed == ()
    assert len(GpuState(folders[0] / gpu.info.uuid).settings_history()) == 1


def test_a_gpu_is_held_against_runs_whose_journals_are_elsewhere(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], tmp_path: Path
) -> None:
    owner = start_owner()
    name, user = path_of(folders).stem, pwd.getpwuid(os.getuid()).pw_name
    assert find_locker(name) == f"process {owner.process.pid} of user {user}"
    other = ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=tmp_path / "other", guarded=False)
    with pytest.raises(LeaseHeldError, match=f"held by process {owner.process.pid} of user {user}; wait until"):
        other.acquire()
    assert gpu_settings(folders) == (1200, 500.0)
    owner.kill()
    assert wait_until(lambda: gpu_settings(folders) == (None, None))
    with other:
        assert find_locker(name) == f"process {os.getpid()} of user {user}"
    assert find_locker(name) is None


def test_a_second_owner_is_refused_by_name(folders: tuple[Path, Path], start_owner: Callable[..., Owner]) -> None:
    owner = start_owner()
    with pytest.raises(LeaseHeldError, match=rf"held by process {owner.process.pid} on .* since 20"):
        ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1]).acquire()
    assert gpu_settings(folders) == (1200, 500.0)


def test_takeover_carries_out_what_a_dead_owner_owes(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner()
    owner.kill_with_guard()
    assert gpu_settings(folders) == (1200, 500.0)
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        assert gpu_settings(folders) == (None, None)
        assert wait_until(lambda: not is_alive(owner.marked))


def test_read_only_refuses_a_gpu_that_is_still_locked(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start_owner()
    owner.kill_with_guard()
    lease = ClockLease(open_gpu(folders, read_only=True), owner_pids=[os.getpid()], journal_dir=folders[1])
    with pytest.raises(ReadOnlyError, match="still locked by a run that died"):
        lease.acquire()
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    assert "SWEEP_CLOCKS forbids" in restore_leftover(folders[1])[0].account
    assert gpu_settings(folders) == (1200, 500.0)
    monkeypatch.delenv("SWEEP_CLOCKS")
    assert "; reset, " in restore_leftover(folders[1])[0].account
    assert gpu_settings(folders) == (None, None)
    assert restore_leftover(folders[1]) == []


def test_restore_leftover_leaves_the_living_alone(folders: tuple[Path, Path]) -> None:
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
        assert "left alone" in restore_leftover(folders[1])[0].account
        assert gpu_settings(folders) == (1200, None)


@pytest.mark.parametrize("field", ["boot_id", "start_ticks"])
def test_a_pid_used_again_is_not_the_owner(folders: tuple[Path, Path], field: str) -> None:
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        values = json.loads(path_of(folders).read_text())
    if field == "boot_id":
        values["boot_id"] = "another boot"
    else:
        values["owners"][0][1] += 1
    path_of(folders).write_text(json.dumps(values))
    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False):
        pass


def test_an_unreadable_journal_says_what_to_do(folders: tuple[Path, Path]) -> None:
    path_of(folders).write_text("{}")
    with pytest.raises(GpuError, match="sweep doctor --reset-clocks resets the GPU's clocks and deletes it"):
        ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False).acquire()


def spoil(folders: tuple[Path, Path], how: str) -> None:
    """Damage the journal of a lease in use, as a cleaner of temporary folders or a user may do."""
    match how:
        case "deleted":
            path_of(folders).unlink()
        case "truncated":
            path_of(folders).write_text(path_of(folders).read_text()[:40])
        case "folder deleted":
            shutil.rmtree(folders[1])


HARMS = ["deleted", "truncated", "folder deleted"]


@pytest.mark.parametrize("how", HARMS)
def test_release_restores_the_gpu_whatever_became_of_the_journal(folders: tuple[Path, Path], how: str) -> None:
    gpu = open_gpu(folders)
    gpu.apply(OperatingPoint(power_limit_w=600.0))  # an administrator's limit
    with ClockLease(gpu, owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        lease.apply(OperatingPoint(sm_clock_mhz=1200, power_limit_w=300.0))
        spoil(folders, how)
        lease.apply(OperatingPoint(sm_clock_mhz=900, mem_clock_mhz=2201))
        assert gpu_settings(folders) == (900, 600.0)
        spoil(folders, how)
    assert gpu_settings(folders) == (None, 600.0)
    assert GpuState(folders[0] / gpu.info.uuid).settings_history()[-1].mem_clock_mhz is None
    assert not path_of(folders).exists()


@pytest.mark.parametrize("how", HARMS)
def test_a_journal_that_was_spoilt_is_written_anew_and_carried_out(
    folders: tuple[Path, Path], start_owner: Callable[..., Owner], how: str
) -> None:
    owner = start_owner()
    journal = read_journal(path_of(folders))
    spoil(folders, how)

    def is_renewed() -> bool:
        now = read_sound_journal(path_of(folders))
        return now is not None and len(now.descendants) == 2  # the new guard has searched

    assert wait_until(is_renewed)
    renewed = read_journal(path_of(folders))
    assert renewed == replace(journal, descendants=renewed.descendants)
    owner.kill()
    assert wait_until(lambda: gpu_settings(folders) == (None, None))
    assert wait_until(lambda: not any(map(is_alive, (owner.marked, owner.forked))))


def test_a_lease_that_somebody_else_holds_by_now_is_left_alone(folders: tuple[Path, Path]) -> None:
    lease = ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False)
    lease.acquire()
    lease.apply(OperatingPoint(sm_clock_mhz=1200))
    other = replace(read_journal(path_of(folders)), lease_id="another")
    write_journal(path_of(folders), other)
    with pytest.raises(GpuError, match="no longer held"):
        lease.apply(OperatingPoint(mem_clock_mhz=2201))
    lease.release()
    assert gpu_settings(folders) == (1200, None)
    assert read_journal(path_of(folders)) == other


def test_on_a_full_disk_nothing_is_set_and_what_was_set_is_put_back(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ClockLease(open_gpu(folders), owner_pids=[os.getpid()], journal_dir=folders[1], guarded=False) as lease:
        lease.apply(OperatingPoint(sm_clock_mhz=1200))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(GpuError, match=r"no lease journal can be kept at .*No space left.*SWEEP_LEASE_DIR"):
                lease.apply(OperatingPoint(mem_clock_mhz=2201))
            assert gpu_settings(folders) == (1200, None)
            lease.apply(OperatingPoint(sm_clock_mhz=900))  # nothing new to write
            lease.release()
            with pytest.raises(GpuError, match="No space left"):
                lease.acquire()
    assert gpu_settings(folders) == (None, None)
    assert [path.suffix for path in folders[1].iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_had_is_named(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (folders[1] / "file").touch()
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(folders[1] / "file" / "leases"))
    with pytest.raises(GpuError, match=r"file/leases \(Not a directory\); set SWEEP_LEASE_DIR elsewhere"):
        ClockLease(open_gpu(folders), owner_pids=[os.getpid()])
