"""The operating point in the values of one GPU: "60%", 1200 or "default" enters, MHz and W leave."""

import re
from collections.abc import Sequence

from runner.hardware.gpu import GpuInfo, NotSupportedError
from runner.spec.operating_point import DEFAULT, OperatingPoint, RequestedPoint

_SLACK = 0.1
"""How far outside the GPU's range a clock may lie and still mean the end of the range, as a fraction."""


def resolve_operating_point(info: GpuInfo, requested: RequestedPoint) -> OperatingPoint:
    """Return a requested operating point in the GPU's own values, each clock the nearest that it supports.

    Args:
        requested: each clock is "default", a share of the highest supported clock ("60%"), "spaced 2/8" (the second of
            eight from the highest to the lowest) or MHz. The power limit is "default", a share of the GPU's default
            limit ("80%") or W.
    Raises: ValueError: a value is not of these forms, or outside the GPU's range. NotSupportedError: the GPU cannot be
        set so.
    """
    mem_clock_mhz = _resolve_clock("mem_clock", requested.mem_clock, info.mem_clocks_mhz, info)
    sm_clocks_mhz = info.sm_clocks_at(mem_clock_mhz)
    return OperatingPoint(
        sm_clock_mhz=_resolve_clock("sm_clock", requested.sm_clock, sm_clocks_mhz, info, mem_clock_mhz),
        mem_clock_mhz=mem_clock_mhz,
        power_limit_w=_resolve_power_limit(requested.power_limit, info),
        sm_clock_is_ceiling=requested.clock_lock == "ceiling" and requested.sm_clock != DEFAULT,
    )


def _resolve_clock(
    axis: str, asked: str | int, supported: Sequence[int], info: GpuInfo, mem_clock_mhz: int | None = None
) -> int | None:
    if asked == DEFAULT:
        return None
    if not supported:
        call = f"nvmlDeviceGetSupported{'Graphics' if info.mem_clocks_mhz else 'Memory'}Clocks"
        raise NotSupportedError(f"{info.name} does not say which clocks it supports ({call}): leave {axis} at default")
    if axis == "mem_clock" and len(supported) == 1:
        raise NotSupportedError(f"{info.name} has one memory clock, {supported[0]} MHz: leave mem_clock at default")
    if spaced := re.fullmatch(r"spaced (\d+)/(\d+)", str(asked)):
        return _space(supported, int(spaced[2]))[int(spaced[1]) - 1]
    # A percentage is of the GPU's highest clock, also at a memory clock that does not allow that clock.
    highest_mhz = (info.sm_clocks_mhz if axis == "sm_clock" else supported)[-1]
    clock_mhz = _parse(axis, asked, highest_mhz, "MHz")
    if not (1 - _SLACK) * supported[0] <= clock_mhz <= (1 + _SLACK) * supported[-1]:
        there = f" at {mem_clock_mhz} MHz of memory" if mem_clock_mhz else ""
        raise ValueError(
            f"{_show(axis, asked, clock_mhz, 'MHz')} is out of range: {info.name} supports "
            f"{supported[0]} to {supported[-1]} MHz{there}"
        )
    return _nearest(clock_mhz, supported)


def _resolve_power_limit(asked: str | float, info: GpuInfo) -> float | None:
    if asked == DEFAULT:
        return None
    default_w, low_w, high_w = info.power_limit_default_w, info.power_limit_min_w, info.power_limit_max_w
    if low_w is None or high_w is None:
        call = "nvmlDeviceGetPowerManagementLimitConstraints"
        raise NotSupportedError(f"{info.name} has no power limit to set ({call}): leave power_limit at default")
    if default_w is None and str(asked).strip().endswith("%"):
        call = "nvmlDeviceGetPowerManagementDefaultLimit"
        raise NotSupportedError(f"{info.name} does not say its default power limit ({call}): give power_limit in W")
    limit_w = _parse("power_limit", asked, default_w or 0.0, "W")
    if not low_w <= limit_w <= high_w:
        raise ValueError(
            f"{_show('power_limit', asked, limit_w, 'W')} is out of range: {info.name} allows {low_w:g} to {high_w:g} W"
        )
    return limit_w


def _show(axis: str, asked: str | float, value: float, unit: str) -> str:
    """Return an axis and its value as the sweep file has them, with the result of a percentage."""
    return f'{axis} = "{asked}" ({value:.0f} {unit})' if str(asked).endswith("%") else f"{axis} = {asked}"


def _parse(axis: str, asked: str | float, full: float, unit: str) -> float:
    """Return MHz or W from a number, or from a percentage of `full`."""
    text = str(asked).strip()
    try:
        return float(text[:-1]) / 100 * full if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(
            f'{axis} = {asked!r} is not allowed: give "default", a share such as "60%", or a number of {unit}'
        ) from None


def _space(supported: Sequence[int], num_clocks: int) -> list[int]:
    """Return supported clocks in MHz, evenly spaced from the highest to the lowest."""
    gap = (supported[-1] - supported[0]) / (num_clocks - 1)
    return [_nearest(supported[-1] - k * gap, supported) for k in range(num_clocks)]


def _nearest(clock_mhz: float, supported: Sequence[int]) -> int:
    return min(supported, key=lambda mhz: abs(mhz - clock_mhz))
