"""Trees of energy counters as Linux shows them below /sys/class/powercap."""

from collections.abc import Iterable
from pathlib import Path

RANGE_UJ = 262_143_328_850
"""Of a package of an Intel server."""


def write_zone(root: Path, zone: str, name: str, energy_uj: int = 0, range_uj: int | None = RANGE_UJ) -> Path:
    """Make one counter, e.g. the zone "intel-rapl:0" with the name "package-0"."""
    directory = root / zone
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "name").write_text(f"{name}\n")
    if range_uj is not None:
        (directory / "max_energy_range_uj").write_text(f"{range_uj}\n")
    set_energy(root, zone, energy_uj)
    return directory


def set_energy(root: Path, zone: str, energy_uj: int) -> None:
    (root / zone / "energy_uj").write_text(f"{energy_uj}\n")


def write_server(root: Path, *, packages: Iterable[int] = (0, 1)) -> Path:
    """Make an Intel server: packages, each with the parts core and dram; and two things that must not be counted."""
    (root / "intel-rapl").mkdir(parents=True)  # the control type
    for k in packages:
        write_zone(root, f"intel-rapl:{k}", f"package-{k}", 1_000_000)
        write_zone(root, f"intel-rapl:{k}:0", "core", 500_000)
        write_zone(root, f"intel-rapl:{k}:1", "dram", 200_000, 65_712_999_613)
    write_zone(root, "intel-rapl:20", "psys", 9_000_000)
    write_zone(root, "intel-rapl-mmio:0", "package-0", 1_000_000)
    return root
