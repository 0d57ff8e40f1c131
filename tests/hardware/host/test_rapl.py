"""The energy counters of CPU packages and their memory, in trees of the tests' own."""

import os
from pathlib import Path

import pytest

from runner.hardware.host.rapl import RaplError, find_zones
from tests.hardware.host.trees import RANGE_UJ, set_energy, write_server, write_zone

S_NS = 1_000_000_000


@pytest.mark.parametrize("num_packages", [1, 2, 12])
def test_packages_and_their_memory_are_found_and_nothing_twice(tmp_path: Path, num_packages: int) -> None:
    zones = find_zones(write_server(tmp_path, packages=range(num_packages)))
    assert [zone.name for zone in zones] == [name for k in range(num_packages) for name in (f"package-{k}", "dram")]


def test_dies_of_a_package_count_each(tmp_path: Path) -> None:
    for die in (0, 1):
        write_zone(tmp_path, f"intel-rapl:{die}", f"package-0-die-{die}")
    assert [zone.name for zone in find_zones(tmp_path)] == ["package-0-die-0", "package-0-die-1"]


def test_the_first_read_is_the_zero(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone = find_zones(tmp_path)[0]
    zone.read(0)
    assert zone.total_j == 0
    set_energy(tmp_path, "intel-rapl:0", 47_500_000)
    zone.read(S_NS)
    assert zone.total_j == pytest.approx(42.5)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 30_000_000)
    zone = find_zones(tmp_path)[0]
    zone.read(0)
    set_energy(tmp_path, "intel-rapl:0", 20_000_000)
    zone.read(S_NS)
    set_energy(tmp_path, "intel-rapl:0", 25_000_000)
    zone.read(2 * S_NS)
    assert zone.total_j == pytest.approx(55)
    assert zone.num_resets == 0


@pytest.mark.parametrize("range_uj", [RANGE_UJ, 0, None])
def test_a_counter_that_was_set_back_is_no_wrap(tmp_path: Path, range_uj: int | None) -> None:
    """From 100 kJ to 0 J in a second: as a wrap it would be 162 kJ."""
    write_zone(tmp_path, "intel-rapl:0", "package-0", 100_000_000_000, range_uj)
    zone = find_zones(tmp_path)[0]
    zone.read(0)
    set_energy(tmp_path, "intel-rapl:0", 0)
    zone.read(S_NS)
    assert (zone.total_j, zone.num_resets) == (0, 1)
    set_energy(tmp_path, "intel-rapl:0", 10_000_000)
    zone.read(2 * S_NS)
    assert (zone.total_j, zone.num_resets) == (pytest.approx(10), 1)


@pytest.mark.parametrize("names", [[], ["psys"], ["dram"], ["core"]])
def test_a_host_without_packages_says_so(tmp_path: Path, names: list[str]) -> None:
    for k, name in enumerate(names):
        write_zone(tmp_path, f"intel-rapl:{k}", name)
    with pytest.raises(RaplError, match=f"no CPU package has an energy counter below {tmp_path}"):
        find_zones(tmp_path)


def test_a_folder_that_is_not_there_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(RaplError, match="no CPU package"):
        find_zones(tmp_path / "none")


def test_links_that_a_container_cuts_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "hidden")
    with pytest.raises(RaplError, match="no CPU package"):
        find_zones(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_who_can_help(tmp_path: Path) -> None:
    directory = write_zone(tmp_path, "intel-rapl:0", "package-0")
    (directory / "energy_uj").chmod(0)
    with pytest.raises(RaplError, match=r"no permission to read .*energy_uj; the administrator can allow it: chmod"):
        find_zones(tmp_path)[0].read(0)


def test_permission_denied_by_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root too, where `chmod` shows nothing."""
    write_zone(tmp_path, "intel-rapl:0", "package-0")
    zone = find_zones(tmp_path)[0]

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(RaplError, match=r"no permission to read .*energy_uj"):
        zone.read(0)


def test_nonsense_is_named(tmp_path: Path) -> None:
    directory = write_zone(tmp_path, "intel-rapl:0", "package-0")
    (directory / "energy_uj").write_text("many\n")
    with pytest.raises(RaplError, match=r"energy_uj cannot be read: .*many"):
        find_zones(tmp_path)[0].read(0)
