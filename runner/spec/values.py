"""How a sweep file writes values that are known later: the parts of an operating point, and numbers of requests.

The values of TOML enter: "default", a percentage, a number, { spaced = 8 }, "4 per slot". Checked values leave. The GPU
and the load that resolve them come later. Next: `sweep.py`.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from runner.spec.operating_point import DEFAULT, ClockValue
from runner.spec.problems import did_you_mean


def as_tuple(value: object) -> object:
    """Return a list as a tuple, as frozen specifications need it, and a single value as a tuple of one."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str | int | float | dict):
        return (value,)
    return value


_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)%$")
_SPACED = re.compile(r"^spaced (\d+)/(\d+)$")
MAX_SPACED = 64


def _expand_spaced(value: object) -> object:
    values = as_tuple(value)
    if not isinstance(values, tuple):
        return value
    expanded: list[object] = []
    for item in values:
        if isinstance(item, dict) and set(item) == {"spaced"}:
            count = item["spaced"]
            if type(count) is not int or not 2 <= count <= MAX_SPACED:
                raise ValueError(f"spaced = {count!r} is not a whole number from 2 to {MAX_SPACED}")
            expanded += [f"spaced {k}/{count}" for k in range(1, count + 1)]
        else:
            expanded.append(item)
    return tuple(expanded)


def _check_point(value: object, unit: str) -> object:
    spaced = ", or { spaced = 8 }" if unit == "MHz" else ""
    allowed = f'"{DEFAULT}", a percentage such as "80%", or a number of {unit}{spaced}'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"is not allowed here: give {allowed}")
    if isinstance(value, str):
        match = _PERCENT.match(value)
        if value != DEFAULT and not _is_spaced(value) and not match:
            raise ValueError(f"is not allowed here: give {allowed}{did_you_mean(value, [DEFAULT])}")
        if match and not 0 < float(match[1]) <= 100:
            raise ValueError("is out of range: a percentage must be above 0% and at most 100%")
    elif value <= 0:
        raise ValueError(f"is out of range: a number of {unit} must be greater than 0")
    return value


def _is_spaced(text: str) -> bool:
    """Whether a text is one of the values that { spaced = N } expands to. Manifests hold them."""
    match = _SPACED.match(text)
    return match is not None and 1 <= int(match[1]) <= int(match[2]) <= MAX_SPACED and int(match[2]) >= 2


def _check_clock(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("is not allowed here: a clock is a whole number of MHz")
    return _check_point(value, "MHz")


def _check_limit(value: object) -> object:
    if isinstance(value, str) and value.startswith("spaced "):
        raise ValueError("is not allowed here: only clocks can be spaced")
    return float(value) if type(_check_point(value, "W")) is int else value  # type: ignore[arg-type]


_TIME = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s)$")
_SECONDS = {"ms": 1e-3, "s": 1.0}


def parse_time_s(text: str) -> float | None:
    """Return "200 ms" or "1.5s" in s; None where it is no time above 0 with its unit."""
    match = _TIME.match(text.strip())
    return float(match[1]) * _SECONDS[match[2]] if match and float(match[1]) > 0 else None


def parse_share(text: str) -> float:
    """Return "80%" as 0.8. Raises: ValueError: it is not a percentage."""
    match = _PERCENT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a percentage")
    return float(match[1]) / 100


def _check_rate(value: object) -> object:
    allowed = 'a number of requests a second above 0, or a share of the capacity such as "80%"'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"is not allowed here: give {allowed}")
    if isinstance(value, str):
        match = _PERCENT.match(value)
        if match is None or not 0 < float(match[1]) <= MAX_CAPACITY_PERCENT:
            raise ValueError(f"is not allowed here: give {allowed} (at most {MAX_CAPACITY_PERCENT:g}%)")
        return value
    if not 0 < value <= MAX_RATE_PER_S:
        raise ValueError(f"is out of range: give {allowed} (at most {MAX_RATE_PER_S:g})")
    return float(value)


def _check_burstiness(value: object) -> object:
    if value in ("inf", float("inf")):
        return float("inf")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 1000:
        raise ValueError('is not allowed here: give a number from 0.01 to 1000 (1 is Poisson), or "inf" for even gaps')
    return float(value)


MAX_RATE_PER_S, MAX_CAPACITY_PERCENT = 100_000.0, 300.0

Rate = Annotated[float | str, BeforeValidator(_check_rate)]
Burstiness = Annotated[
    float, BeforeValidator(_check_burstiness), PlainSerializer(lambda shape: "inf" if shape == float("inf") else shape)
]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(as_tuple), Field(strict=False)]
Burstinesses = Annotated[tuple[Burstiness, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
_PER_SLOT = re.compile(r"^(\d+) per slot$")


def _check_num_requests(value: object) -> object:
    if isinstance(value, str) and not _PER_SLOT.match(value):
        near = did_you_mean(re.sub(r"^\d+", "4", value), ["4 per slot"])
        raise ValueError(f'is not allowed: give a whole number, or "4 per slot" for 4 times the concurrency{near}')
    if not isinstance(value, str) and type(value) is not int:
        raise ValueError('is not allowed: give a whole number, or "4 per slot" for 4 times the concurrency')
    if int(str(value).partition(" ")[0]) < 1:
        raise ValueError("is out of range: it must be at least 1")
    return value


def count_requests(asked: int | str, num_slots: int) -> int:
    """Return a number of requests.

    Args:
        asked: the number, or "4 per slot".
        num_slots: the requests in flight.
    """
    match = _PER_SLOT.match(str(asked))
    return int(match[1]) * num_slots if match else int(asked)


PositiveInt = Annotated[int, Field(ge=1)]
RequestCount = Annotated[int | str, BeforeValidator(_check_num_requests)]
Clock = Annotated[ClockValue, BeforeValidator(_check_clock)]
PowerLimit = Annotated[float | str, BeforeValidator(_check_limit)]
Clocks = Annotated[tuple[Clock, ...], BeforeValidator(_expand_spaced), Field(min_length=1, strict=False)]
PowerLimits = Annotated[tuple[PowerLimit, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
