"""An operating point: as a sweep file asks for it, and in the values of one GPU.

`hardware/operating_point.py` turns a `RequestedPoint` into an `OperatingPoint`. Next: `trial.py`.
"""

from dataclasses import dataclass
from typing import Any, Literal

DEFAULT = "default"

ClockValue = int | str
"""MHz, "80%" of the highest supported clock, "default", or "spaced 2/8": the second of eight from highest to lowest."""
ClockLock = Literal["pinned", "ceiling"]
"""How the SM clock is locked: to one value, or to all values from the lowest up to one."""
Setting = Literal["sm_clock", "mem_clock", "power_limit"]
"""A part of the operating point: what of a GPU can be set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedPoint:
    """An operating point as the sweep file writes it: "default", a percentage, spaced clocks, MHz or W."""

    sm_clock: ClockValue = DEFAULT
    mem_clock: ClockValue = DEFAULT
    power_limit: float | str = DEFAULT
    clock_lock: ClockLock = "pinned"

    @property
    def is_default(self) -> bool:
        """Whether nothing is to be set."""
        return (self.sm_clock, self.mem_clock, self.power_limit) == (DEFAULT, DEFAULT, DEFAULT)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """An operating point in the values that one GPU supports. None leaves a part at the GPU's default."""

    sm_clock_mhz: int | None = None
    mem_clock_mhz: int | None = None
    power_limit_w: float | None = None
    sm_clock_is_ceiling: bool = False
    """Whether the SM clock may fall below `sm_clock_mhz` while there is little to do."""

    @property
    def is_default(self) -> bool:
        """Whether nothing is to be set."""
        return not self.settings

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The parts that are to be set."""
        asked: dict[Setting, float | None] = {
            "sm_clock": self.sm_clock_mhz,
            "mem_clock": self.mem_clock_mhz,
            "power_limit": self.power_limit_w,
        }
        return tuple(setting for setting, value in asked.items() if value is not None)

    def columns(self) -> dict[str, Any]:
        """Return the operating point's columns of `tables.TRIALS`, by name."""
        return {
            "sm_clock_mhz_requested": self.sm_clock_mhz,
            "mem_clock_mhz_requested": self.mem_clock_mhz,
            "power_limit_w_requested": self.power_limit_w,
            "clock_lock_requested": "ceiling" if self.sm_clock_is_ceiling else None,
        }
