"""The axes of a sweep file: the loads and the operating points that are combined.

The tables `[axes]` and `[[override]]` enter; `AxesSpec` and `OverrideSpec` leave. Next: `trial.py` combines them.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from runner.spec.load import ClosedLoop, Load, OpenLoop
from runner.spec.operating_point import DEFAULT, ClockLock
from runner.spec.strict import StrictSpec
from runner.spec.values import Burstinesses, Clocks, PositiveInt, PowerLimits, Rates, as_tuple, parse_share

Concurrencies = Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
ClockLocks = Annotated[tuple[ClockLock, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]


class AxesSpec(StrictSpec):
    """The load and the operating point. A sweep runs every combination of their values.

    Each concurrency and each request rate is a load of its own. Where only rates are given, there is no closed loop.
    """

    concurrency: Concurrencies | None = (16,)
    request_rate: Rates = ()
    """Arrivals a second, or a share of the capacity such as "80%"."""
    burstiness: Burstinesses = (1.0,)
    """Shape of the gamma distribution of the gaps between arrivals: 1 is Poisson, "inf" is even."""
    sm_clock: Clocks = (DEFAULT,)
    mem_clock: Clocks = (DEFAULT,)
    power_limit: PowerLimits = (DEFAULT,)
    clock_lock: ClockLocks = ("pinned",)
    """Pin the SM clock, or set it as a ceiling below which it may fall. At the default clock it changes nothing."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_closed_loops(cls, axes: object) -> object:
        if isinstance(axes, dict) and axes.get("request_rate") and "concurrency" not in axes:
            return axes | {"concurrency": None}
        return axes

    @property
    def loads(self) -> list[Load]:
        """The loads: each concurrency, then each request rate with each burstiness."""
        open_loops = [
            OpenLoop(
                request_rate_per_s=None if isinstance(rate, str) else rate,
                capacity_fraction=parse_share(rate) if isinstance(rate, str) else None,
                burstiness=burstiness,
            )
            for rate in self.request_rate
            for burstiness in self.burstiness
        ]
        return [*(ClosedLoop(concurrency=number) for number in self.concurrency or ()), *open_loops]

    @field_validator("concurrency", "request_rate", "burstiness", "sm_clock", "mem_clock", "power_limit", "clock_lock")
    @classmethod
    def _check_repeated(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if values is None:
            return None
        if repeated := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            raise ValueError(f"contains {repeated[0]!r} twice: list each value once (`repeats` runs all of them again)")
        return values


class OverrideSpec(StrictSpec):
    """Other axes for one model, one task, or one pair of both. Axes that it leaves out keep their values."""

    model: str | None = None
    task: str | None = None
    concurrency: Concurrencies | None = None
    request_rate: Annotated[Rates, Field(min_length=1)] | None = None
    burstiness: Burstinesses | None = None
    sm_clock: Clocks | None = None
    mem_clock: Clocks | None = None
    power_limit: PowerLimits | None = None
    clock_lock: ClockLocks | None = None
