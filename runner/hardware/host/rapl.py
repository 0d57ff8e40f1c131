"""The energy counters of a host's CPU packages and their memory (RAPL), as Linux shows them below /sys/class/powercap.

A folder with `intel-rapl:N` (a package; AMD's too) and `intel-rapl:N:M` (a part of it) enters, running totals in J
leave. It reads only. Next: `meter.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MAX_ZONE_W = 2000.0
"""More than any CPU package or its memory draws. A counter that seems to have gained more was set back."""
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
_J_PER_COUNT = 1e-6


class RaplError(Exception):
    """A host's energy is not known. The message says why, and what to do where something can be done."""


@dataclass(kw_only=True)
class RaplZone:
    """One counter: a package, or the memory of one. It wraps at its range; `read` adds up what lies between reads."""

    name: str
    """As the kernel has it: package-0, or dram."""
    directory: Path
    range_j: float | None
    """Where the counter begins again at 0; None where the kernel does not say."""
    total_j: float = 0.0
    """Since the first read."""
    num_resets: int = 0
    """How often the counter was set back. No energy is known across such a moment."""
    _last: tuple[int, float] | None = field(default=None, repr=False)

    def read(self, now_ns: int) -> None:
        """Bring `total_j` up to date. A counter must be read at least once in each of its rounds.

        Raises: RaplError: it cannot be read.
        """
        counter_j = _read_number(self.directory / "energy_uj") * _J_PER_COUNT
        if self._last is not None:
            last_ns, last_j = self._last
            gained_j = counter_j - last_j
            if gained_j < 0 and self.range_j is not None:
                gained_j += self.range_j
            limit_j = MAX_ZONE_W * max((now_ns - last_ns) * 1e-9, 1e-3)
            if 0 <= gained_j <= limit_j:
                self.total_j += gained_j
            else:
                self.num_resets += 1
        self._last = now_ns, counter_j


def find_zones(root: Path = POWERCAP) -> list[RaplZone]:
    """Return the packages of this host and the memory of each, in order, not read yet.

    Parts of a package that its own counter holds (core, uncore) are left out. So is psys, which holds packages.

    Raises: RaplError: there is none.
    """
    zones = list(_find_zones(root))
    if not any(_PACKAGE.fullmatch(zone.name) for zone in zones):
        raise RaplError(f"no CPU package has an energy counter below {root}")
    return zones


def _find_zones(root: Path) -> Iterator[RaplZone]:
    for directory in sorted(root.glob("intel-rapl:*"), key=_zone_numbers):
        try:
            name = (directory / "name").read_text().strip()
        except OSError:  # a container may hide what a link points to
            continue
        is_part = directory.name.count(":") > 1
        if (name == "dram") if is_part else _PACKAGE.fullmatch(name) or name == "dram":
            try:
                range_j = _read_number(directory / "max_energy_range_uj") * _J_PER_COUNT
            except RaplError:
                range_j = None
            yield RaplZone(name=name, directory=directory, range_j=range_j or None)


def _zone_numbers(directory: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", directory.name)]


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError:
        raise RaplError(
            f"no permission to read {path}; the administrator can allow it: chmod a+r {path.parent.parent}/*/energy_uj"
        ) from None
    except (OSError, ValueError) as error:
        raise RaplError(f"{path} cannot be read: {error}") from error
