"""When readings show a clock, with results worked out by hand."""

import pytest

from runner.execution.worker.trial.settle import find_arrival_ns
from runner.hardware.gpu import StateReading
from runner.spec.operating_point import OperatingPoint
from runner.spec.throttle import ThrottleReason

IDLE, CAPPED = ThrottleReason.IDLE, ThrottleReason.POWER_CAP


def read(
    *clocks_mhz: int | None,
    reasons: ThrottleReason | None = ThrottleReason.NONE,
    mem_clock_mhz: int | None = 3201,
) -> list[StateReading]:
    """Make one reading for each clock. The k-th is stamped k ns."""
    return [
        StateReading(
            time_ns=k, sm_clock_mhz=mhz, mem_clock_mhz=mem_clock_mhz, temperature_c=40.0, throttle_reasons=reasons
        )
        for k, mhz in enumerate(clocks_mhz)
    ]


@pytest.mark.parametrize(
    ("clocks_mhz", "arrival"),
    [
        ([], None),
        ([1200, 1200], None),  # one of them may be an old one
        ([1200, 1200, 1200], 0),
        ([1980, 1500, 1200, 1200, 1200, 1200], 2),
        ([1200, 1200, 1200, 1980], None),  # gone again
        ([1200, 1200, 1200, 1980, 1200, 1200, 1200], 4),
        ([1224, 1176, 1200], 0),  # within the 2 % that a verdict allows
        ([1225, 1225, 1225], None),
        ([None, 1200, 1200, 1200], 1),
        ([1200, 1200, 1200, None], None),
    ],
)
def test_the_first_of_the_last_readings_that_all_show_it(clocks_mhz: list[int | None], arrival: int | None) -> None:
    assert find_arrival_ns(read(*clocks_mhz), OperatingPoint(sm_clock_mhz=1200)) == arrival


def test_an_idle_reading_proves_nothing() -> None:
    request = OperatingPoint(sm_clock_mhz=1200)
    assert find_arrival_ns(read(1200, 1200, 1200, reasons=IDLE), request) is None
    assert find_arrival_ns(read(1200, 1200, 1200, reasons=CAPPED), request) == 0
    assert find_arrival_ns(read(1200, 1200, 1200, reasons=None), request) == 0  # this driver does not say
    # Between two requests the GPU may be idle for a moment, at whatever clock.
    under_load, idle = read(1980, 1200, 0, 1200, 0, 1200), read(0, 0, 345, 0, 345, 0, reasons=IDLE)
    mixed = [idle[k] if k in (2, 4) else under_load[k] for k in range(6)]
    assert find_arrival_ns(mixed, request) == 1


def test_both_clocks_must_be_there() -> None:
    both = OperatingPoint(sm_clock_mhz=1200, mem_clock_mhz=2201)
    assert find_arrival_ns(read(1200, 1200, 1200), both) is None
    assert find_arrival_ns(read(1200, 1200, 1200, mem_clock_mhz=2201), both) == 0
    assert find_arrival_ns(read(1980, 1980, 1980, mem_clock_mhz=2201), OperatingPoint(mem_clock_mhz=2201)) == 0
