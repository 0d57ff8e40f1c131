"""What `sweep doctor` finds on simulated GPUs. Nothing here sets a real one."""

import json
import os
import re
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from runner.hardware import doctor
from runner.hardware.clocks.lease import ClockLease
from runner.hardware.clocks.processes import is_alive
from runner.hardware.clocks.recovery import restore_leftover
from runner.hardware.doctor import Check, examine, reset_leftovers
from runner.hardware.factory import open_gpu
from runner.hardware.gpu import Gpu, GpuError, GpuLostError, NotSupportedError, ReadOnlyError
from runner.hardware.host.meter import find_host_meter
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.probe import probe_sensors
from runner.physics.gpu_state import GpuState
from runner.spec.operating_point import OperatingPoint
from runner.timebase import VirtualTime, WallTime
from tests.hardware.host.trees import write_zone
from tests.hardware.owners import Owner, gpu_settings, wait_until


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(tmp_path / "leases"))
    for name in ("SWEEP_CLOCKS", "SWEEP_SIMULATED_PERMISSION"):
        monkeypatch.delenv(name, raising=False)


def look(gpu: str = "sim", cuda_visible_devices: str | None = None) -> list[Check]:
    return examine(gpu, cuda_visible_devices, VirtualTime())


def find(checks: list[Check], words: str) -> Check:
    (check,) = [check for check in checks if words in check.finding]
    return check


def fail_with(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_sound_machine_has_nothing_but_good_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda package: "0.32.0")
    checks = look("sim:h200x2")
    assert {check.level for check in checks} == {"ok"}
    assert {check.subject for check in checks} == {"engine", "GPU 0", "GPU 1"}
    assert find(checks, "vllm 0.32.0").subject == "engine"
    gpus = [check.finding for check in checks if "GPU-SIM-H200-" in check.finding]
    assert len(gpus) == 2
    assert all("345 to 1980 MHz" in finding for finding in gpus)


def test_the_buffers_rate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check = find(look(), "power samples")
    assert (check.level, check.finding) == ("ok", "power samples: 50 a second, 79 W now")


def test_no_gpu_is_an_error_with_the_way_out() -> None:
    check = look("all", "")[-1]
    assert (check.level, check.subject) == ("error", "GPUs")
    assert "--gpu sim" in check.advice


def test_auto_without_a_gpu_says_that_the_numbers_are_a_models() -> None:
    check = find(look("auto", ""), "no NVIDIA GPU here")
    assert check.level == "warning"
    assert "a model's" in check.finding


def test_what_is_no_request_is_the_callers_mistake_and_no_finding() -> None:
    with pytest.raises(ValueError, match="no simulated GPU is called 'h9000'"):
        look("sim:h9000")


def test_without_vllm_the_machine_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", fail_with(PackageNotFoundError("vllm")))
    check = look()[0]
    assert (check.level, check.finding) == ("error", "vLLM is not installed")
    assert "make sweep" in check.advice


@pytest.mark.parametrize(
    ("method", "error", "words"),
    [
        ("read_power_samples", NotSupportedError("no buffer"), "no power samples: no buffer"),
        ("read_energy_counter_j", NotSupportedError("no counter"), "no energy counter: no counter"),
        ("read_energy_counter_j", GpuLostError("off the bus"), "off the bus"),
        ("read_process_ids", GpuError("not in this container"), "cannot be seen: not in this container"),
    ],
)
def test_a_reading_that_fails_is_a_warning_with_advice_and_the_rest_is_examined(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, words: str
) -> None:
    monkeypatch.setattr(NvmlGpu, method, fail_with(error))
    checks = look()
    check = find(checks, words)
    assert check.level == "warning"
    assert check.advice
    assert find(checks, "clocks can be set").level == "ok"


def test_a_buffer_that_stays_empty_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NvmlGpu, "read_power_samples", lambda *_: [])
    assert find(look(), "no power sample came").level == "warning"


def test_other_processes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NvmlGpu, "read_process_ids", lambda _: [11, 12, 13, 14, 15, 16])
    check = find(look(), "in use by other processes")
    assert (check.level, "6 of them: 11, 12, 13, 14, 15, ..." in check.finding) == ("warning", True)


def test_an_order_to_set_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    assert find(look(), "clocks are never set").level == "ok"


def test_a_lease_is_told_with_its_holder() -> None:
    time_source = VirtualTime()
    gpu = open_gpu("sim", 0, time_source, read_only=False)
    with ClockLease(gpu, owner_pids=[os.getpid()], guarded=False):
        check = find(examine("sim", None, time_source), "leased by")
        assert (check.level, f"process {os.getpid()}" in check.finding) == ("warning", True)
    assert not [check for check in examine("sim", None, time_source) if "leased" in check.finding]


def test_findings_on_each_sensor_and_part_are_details_and_nothing_else_is() -> None:
    checks = look()
    assert [check.finding.split(":")[0] for check in checks if check.is_detail] == [
        "sensor 'samples'",
        "sensor 'instant'",
        "sensor 'average'",
        "sensor 'counter'",
        "power of its memory",
        "activity counters",
    ]


def test_eight_gpus_take_about_as_long_as_one_and_are_told_in_order() -> None:
    def took(gpu: str) -> tuple[list[Check], float]:
        begin_s = time.monotonic()
        return examine(gpu, None), time.monotonic() - begin_s

    one, one_s = took("sim")
    eight, eight_s = took("sim:h200x8")
    assert eight_s < 2.5 * one_s  # one after the other would take 8 times as long
    machine, *gpu_checks = eight
    assert machine == one[0]
    subjects = [check.subject for check in gpu_checks]
    assert list(dict.fromkeys(subjects)) == [f"GPU {index}" for index in range(8)]
    assert subjects == sorted(subjects)

    def findings(checks: list[Check], subject: str) -> list[tuple[str, str]]:
        """Without the numbers, which are measured: rates, periods, times of calls."""
        return [(check.level, re.sub(r"[0-9.]+", "#", check.finding)) for check in checks if check.subject == subject]

    expected = findings(one, "GPU 0")
    assert len(expected) >= 9
    assert all(findings(eight, f"GPU {index}") == expected for index in range(8))


def test_what_is_being_looked_at_is_told_while_it_is() -> None:
    looks: list[tuple[str, str | None]] = []
    examine("sim:h200x2", None, VirtualTime(), lambda subject, part: looks.append((subject, part)))
    assert looks[:2] == [("GPUs", "list"), ("GPUs", None)]
    parts = ["power samples", "energy counter", "power sensors", "settings and processes", None]
    assert looks[2:] == [(f"GPU {index}", part) for index in range(2) for part in parts]


def test_a_gpu_that_fails_leaves_what_was_found_before_and_the_other_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(gpu: Gpu, time_source: Any) -> Any:
        if gpu.info.index == 1:
            raise GpuError("it does not answer")
        return probe_sensors(gpu, time_source)

    monkeypatch.setattr(doctor, "probe_sensors", probe)
    checks = look("sim:h200x3")
    found = {index: [check for check in checks if check.subject == f"GPU {index}"] for index in range(3)}
    assert (found[1][-1].level, found[1][-1].finding) == ("error", "it does not answer")
    assert len(found[1]) == 4
    assert len(found[0]) == len(found[2]) == 11


def test_an_error_of_the_program_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe_sensors", fail_with(RuntimeError("an error of the program")))
    with pytest.raises(RuntimeError, match="an error of the program"):
        examine("sim:h200x2", None)


# --reset-clocks ------------------------------------------------------------------------------------------------------


def locked_gpu() -> Gpu:
    gpu = open_gpu("sim", 0, WallTime(), read_only=False)
    gpu.apply(OperatingPoint(sm_clock_mhz=990))
    return gpu


def sm_clock_lock(gpu: Gpu) -> int | None:
    assert gpu.address.gpu_state_dir is not None
    return GpuState(gpu.address.gpu_state_dir).settings_history()[-1].sm_clock_mhz


def test_a_lock_left_behind_is_cleared() -> None:
    gpu = locked_gpu()
    assert sm_clock_lock(gpu) == 990
    assert list(reset_leftovers("sim", None)) == ["GPU 0 Simulated NVIDIA H200: clocks are at the GPU's default"]
    assert sm_clock_lock(gpu) is None


def test_a_gpu_that_somebody_holds_is_left_alone() -> None:
    gpu = locked_gpu()
    with ClockLease(gpu, owner_pids=[os.getpid()], guarded=False):
        lines = list(reset_leftovers("sim", None))
        assert f"GPU 0 Simulated NVIDIA H200: held by process {os.getpid()}" in lines[-1]
        assert sm_clock_lock(gpu) == 990


def test_what_a_run_left_with_its_journal_is_put_back_as_it_was(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path]
) -> None:
    administrators = open_gpu("sim", 0, WallTime(), read_only=False)
    administrators.apply(OperatingPoint(power_limit_w=600.0))
    owner = start_owner()
    owner.kill_with_guard()
    assert gpu_settings(folders) == (1200, 500.0)
    lines = list(reset_leftovers("sim", None))
    assert f"left over by process {owner.process.pid} on" in lines[0]
    assert re.search("; reset, [12] processes ended", lines[0])  # the guard may not have seen the forked one
    assert lines[1:] == [
        "GPU 0 Simulated NVIDIA H200: clocks are at the GPU's default; its power limit is 600 W (its default: 700 W)"
    ]
    assert gpu_settings(folders) == (None, 600.0)
    assert wait_until(lambda: not is_alive(owner.marked))
    assert not list(folders[1].glob("*.json"))


def test_what_another_machine_left_is_that_machines_to_clear(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path]
) -> None:
    owner = start_owner()
    owner.kill_with_guard()
    (path,) = folders[1].glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere", "boot_id": "another"}))
    assert "on elsewhere, since" in restore_leftover()[0].account
    assert "run sweep doctor --reset-clocks there" in restore_leftover()[0].account
    assert path.exists()


def test_what_was_left_on_a_gpu_that_is_not_chosen_stays(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path]
) -> None:
    owner = start_owner()
    owner.kill_with_guard()
    (path,) = folders[1].glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state_dir": None}))  # as of a real GPU
    assert "not among the chosen GPUs, left alone" in restore_leftover(allowed_uuids=["GPU-another"])[0].account
    assert path.exists()


def test_a_journal_that_cannot_be_read_is_told_and_its_gpu_reset(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path]
) -> None:
    owner = start_owner()
    owner.kill_with_guard()
    (path,) = folders[1].glob("*.json")
    path.write_text(path.read_text()[:40])
    check = find(examine("sim", None, VirtualTime(time.time_ns())), "cannot be understood")
    assert (check.level, "sweep doctor --reset-clocks" in check.finding) == ("error", True)
    lines = list(reset_leftovers("sim", None))
    assert "not restored: the lease journal" in lines[0]
    assert "its power limit is 500 W (its default: 700 W)" in lines[1]  # it may be an administrator's
    assert gpu_settings(folders) == (None, 500.0)
    assert not path.exists()


def test_what_could_not_be_put_back_is_told_and_the_command_fails(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path]
) -> None:
    start_owner().kill_with_guard()
    (path,) = folders[1].glob("*.json")
    elsewhere = path.rename(path.with_stem("GPU-another"))  # its GPU is not among the chosen ones
    sound = elsewhere.read_text()
    elsewhere.write_text(sound[:40])
    told: list[str] = []
    with pytest.raises(GpuError, match=r"not everything that dead runs left is put back.*GPU-another"):
        told.extend(reset_leftovers("sim", None))
    assert [line.partition(":")[0] for line in told] == ["GPU-another", "GPU 0 Simulated NVIDIA H200"]
    elsewhere.write_text(sound)
    told = list(reset_leftovers("sim", None))
    assert "; reset, " in told[0]


def test_a_gpu_that_another_user_holds_is_left_alone(
    start_owner: Callable[..., Owner], folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner = start_owner()
    monkeypatch.setenv("SWEEP_LEASE_DIR", str(tmp_path / "another-user"))  # a folder without our journals
    assert f"held by process {owner.process.pid} of user" in list(reset_leftovers("sim", None))[-1]
    assert gpu_settings(folders) == (1200, 500.0)
    owner.kill()


def test_why_clocks_cannot_be_set_is_told_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_PERMISSION", "denied")
    check = find(look(), "clocks cannot be set")
    assert check.level == "warning"
    assert "docs/permissions.md" in str(check.advice)


def test_an_order_to_set_nothing_forbids_the_reset_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = locked_gpu()
    monkeypatch.setenv("SWEEP_CLOCKS", "read-only")
    with pytest.raises(ReadOnlyError, match="SWEEP_CLOCKS=read-only forbids"):
        list(reset_leftovers("sim", None))
    assert sm_clock_lock(gpu) == 990


@pytest.mark.parametrize(("gpu", "words"), [("sim:h200", "there"), ("sim:h200+a100", "none (")])
def test_what_can_split_a_joule_is_a_detail(gpu: str, words: str) -> None:
    checks = look(gpu)
    for name in ("power of its memory", "activity counters"):
        check = find(checks, name)
        assert check.finding.startswith(f"{name}: {words}")
        assert (check.level, check.is_detail) == ("ok", True)
    assert "host" not in {check.subject for check in checks}


def test_the_host_of_a_real_gpu_says_whether_its_energy_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "is_simulated", lambda request: False)
    monkeypatch.setattr(doctor, "find_host_meter", partial(find_host_meter, root=tmp_path))
    assert find(look(), "its energy stays null: no CPU package has an energy counter").subject == "host"
    write_zone(tmp_path, "intel-rapl:0", "package-0")
    assert find(look(), "its energy can be read (RAPL)").level == "ok"
