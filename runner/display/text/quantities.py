"""Numbers as people read them: three significant digits, a unit that fits, an en dash where nothing is known."""

import math

UNKNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def format_number(value: float | None, *, num_digits: int = 3) -> str:
    """Format with `num_digits` significant digits and thousands separated; whole digits are never rounded away."""
    if value is None:
        return UNKNOWN
    text = f"{value:,.{num_decimals(value, num_digits)}f}"
    return text.replace("-", MINUS)


def num_decimals(value: float, num_digits: int = 3) -> int:
    """Return the decimals that show `value` with `num_digits` significant digits, 0 at least."""
    if value == 0 or not math.isfinite(value):
        return 0
    exponent = int(f"{value:.{num_digits - 1}e}".partition("e")[2])  # after rounding: 0.9996 counts as 1.00
    return max(num_digits - 1 - exponent, 0)


def format_change(fraction: float | None) -> str:
    """Format a fraction as a signed percentage, with a true minus sign."""
    if fraction is None:
        return UNKNOWN
    percent = round(100 * fraction, 1) + 0.0  # + 0.0 turns a negative zero into a plain one
    return f"{percent:+.1f} %".replace("-", MINUS)


def format_change_interval(fraction: float | None, low: float | None, high: float | None) -> str:
    """Format a fraction as per cent without the sign, with half the width of its interval, e.g. "-23.1 ±2.0".

    Both lose their decimal where the interval is so wide that it says nothing.
    """
    change = format_change(fraction).removesuffix(" %")
    if fraction is None or low is None or high is None:
        return change
    half_width = 50 * (high - low)
    if half_width < 10:
        return f"{change} ±{half_width:.1f}"
    return f"{100 * fraction:+.0f} ±{half_width:.0f}".replace("-", MINUS)


def format_energy(energy_j: float | None) -> str:
    """Format as J, kJ or MJ."""
    return _scale(energy_j, "J")


def format_power(power_w: float | None) -> str:
    """Format as W, kW or MW."""
    return _scale(power_w, "W")


def format_duration(seconds: float | None, *, whole_minutes: bool = False) -> str:
    """Format with the two units that matter, e.g. "1 h 04 min", "12 min 40 s", "40 s".

    `whole_minutes` leaves the seconds out from one minute on, for a time that is only an estimate.
    """
    if seconds is None:
        return UNKNOWN
    whole = max(round(seconds), 0)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{round(whole / 60)} min" if whole_minutes else f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def format_timestamp(seconds: float) -> str:
    """Format time since the start of a run as h:mm:ss, without the hour while there is none."""
    whole = max(math.floor(seconds), 0)
    minutes = f"{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def _scale(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    for factor, prefix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{format_number(value / factor)} {prefix}{unit}"
    return f"{format_number(value)} {unit}"
