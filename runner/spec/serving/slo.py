"""What a service promises for each request, and for what share of the requests.

The table `[slo]` of a sweep file enters, an `Slo` leaves. Next: `analysis/window/service.py` holds requests against it.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, model_validator

from runner.spec.strict import StrictSpec
from runner.spec.values import parse_time_s

_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)\s*%$")


def _read_time(value: object) -> float:
    time_s = parse_time_s(value) if isinstance(value, str) else None
    if time_s is None:
        raise ValueError('is not allowed: give a time above 0 with its unit, such as "200 ms" or "1.5 s"')
    return time_s


def _read_share(value: object) -> float:
    match = _PERCENT.match(value.strip()) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError('is not allowed: give a percentage above 0% and at most 100%, such as "99%"')
    return float(match[1]) / 100


_NANOSECOND_S = 1e-9
"""Times are whole nanoseconds. As seconds in floating point, one that equals the limit may come out above it."""

Time = Annotated[float, BeforeValidator(_read_time), PlainSerializer(lambda seconds: f"{1e3 * seconds:.12g} ms")]
Share = Annotated[float, BeforeValidator(_read_share), PlainSerializer(lambda share: f"{100 * share:.12g}%")]


def _is_within(time_s: float | None, limit_s: float | None) -> bool:
    return time_s is None or limit_s is None or time_s <= limit_s + _NANOSECOND_S


class Slo(StrictSpec):
    """What each request must keep to be a good one. Times are in s; None where nothing is promised."""

    ttft: Time | None = None
    """From the arrival to the first token, at most."""
    tpot: Time | None = None
    """Mean time between tokens after the first one, at most."""
    e2el: Time | None = None
    """From the arrival to the last token, at most."""
    share: Share = 0.99
    """The least share of good requests."""

    @model_validator(mode="after")
    def _check_promised(self) -> "Slo":
        if self.ttft is None and self.tpot is None and self.e2el is None:
            raise ValueError('give at least one of ttft, tpot and e2el, such as ttft = "200 ms"')
        return self

    def is_good(self, *, ttft_s: float, tpot_s: float | None, latency_s: float) -> bool:
        """Return whether a request keeps every promise. A request of one token has no TPOT, and keeps it."""
        return _is_within(ttft_s, self.ttft) and _is_within(tpot_s, self.tpot) and _is_within(latency_s, self.e2el)

    def __str__(self) -> str:
        promised = (("TTFT", self.ttft), ("TPOT", self.tpot), ("E2EL", self.e2el))
        parts = [f"{name} ≤ {1e3 * limit:g} ms" for name, limit in promised if limit is not None]
        return f"{', '.join(parts)} for {100 * self.share:g} % of requests"
