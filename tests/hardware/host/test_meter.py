"""The running total of a host's energy, and what lies between two readings."""

import time
from pathlib import Path

import pytest

from runner.hardware.host import meter as meter_module
from runner.hardware.host.meter import HostReading, find_host_meter, mean_power_w
from runner.timebase import VirtualTime, WallTime
from tests.hardware.host.trees import set_energy, write_server, write_zone


def test_packages_and_memory_add_up(tmp_path: Path) -> None:
    time_source = VirtualTime()
    host = find_host_meter(time_source, root=write_server(tmp_path), num_workers=2)
    first = host.read()
    time_source.sleep(10.0)
    for zone, energy_uj in {
        "intel-rapl:0": 101_000_000, "intel-rapl:0:0": 90_000_000, "intel-rapl:0:1": 20_200_000,
        "intel-rapl:1": 51_000_000, "intel-rapl:1:1": 5_200_000, "intel-rapl:20": 999_000_000,
    }.items():  # fmt: skip
        set_energy(tmp_path, zone, energy_uj)
    last = host.read()
    energy = host.compare(first, last, idle_power_w=3.0)
    assert energy.energy_j == pytest.approx(100 + 20 + 50 + 5)
    assert energy.elapsed_s == pytest.approx(10.0)
    assert (energy.idle_power_w, energy.num_workers, energy.reason) == (3.0, 2, None)
    assert energy.zones == ("package-0", "dram", "package-1", "dram")
    assert mean_power_w(first, last) == pytest.approx(17.5)


def test_one_counter_that_cannot_be_read_makes_the_sum_unknown(tmp_path: Path) -> None:
    time_source = VirtualTime()
    host = find_host_meter(time_source, root=write_server(tmp_path))
    first = host.read()
    time_source.sleep(1.0)
    (tmp_path / "intel-rapl:1:1" / "energy_uj").unlink()
    last = host.read()
    energy = host.compare(first, last)
    assert energy.energy_j is None
    assert "intel-rapl:1:1/energy_uj cannot be read" in str(energy.reason)
    assert mean_power_w(first, last) is None


def test_a_counter_set_back_in_the_window_makes_its_energy_unknown_and_no_other(tmp_path: Path) -> None:
    time_source = VirtualTime()
    write_zone(tmp_path, "intel-rapl:0", "package-0", 100_000_000_000)
    host = find_host_meter(time_source, root=tmp_path)
    readings = [host.read()]
    for energy_uj in (0, 7_000_000):
        time_source.sleep(1.0)
        set_energy(tmp_path, "intel-rapl:0", energy_uj)
        readings.append(host.read())
    assert host.compare(readings[0], readings[2]).energy_j is None
    assert host.compare(readings[0], readings[2]).reason == "an energy counter of the host was set back in the window"
    assert host.compare(readings[1], readings[2]).energy_j == pytest.approx(7.0)


def test_a_host_without_counters_gives_the_reason(tmp_path: Path) -> None:
    host = find_host_meter(VirtualTime(), root=tmp_path)
    host.start()
    energy = host.compare(host.read(), host.read())
    host.stop()
    assert energy.energy_j is None
    assert energy.reason == f"no CPU package has an energy counter below {tmp_path}"


def test_the_thread_sees_every_round_of_a_small_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter of 10 J gains 8 J between two reads of the thread: five times round, unseen by the two edges alone."""
    monkeypatch.setattr(meter_module, "FOLLOW_S", 0.02)
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0, 10_000_000)
    host = find_host_meter(WallTime(), root=tmp_path)
    first = host.read()
    readings: list[HostReading] = []
    read = host.read
    monkeypatch.setattr(host, "read", lambda: readings.append(read()))
    host.start()
    try:
        for k in range(1, 7):
            set_energy(tmp_path, "intel-rapl:0", 8_000_000 * k % 10_000_000)
            num_before = len(readings)
            limit_s = time.monotonic() + 30
            while len(readings) < num_before + 2:  # the first of them may have begun before the counter changed
                assert time.monotonic() < limit_s
                time.sleep(0.002)
    finally:
        host.stop()
    assert host.compare(first, read()).energy_j == pytest.approx(48.0)
