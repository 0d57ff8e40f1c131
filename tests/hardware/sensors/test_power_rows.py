"""Rows of the power table."""

import polars as pl

from runner.hardware.gpu import PowerReading, StateReading
from runner.hardware.sensors.power_rows import PowerRows
from runner.results.tables import POWER
from runner.spec.throttle import ThrottleReason

STATE = StateReading(
    time_ns=15,
    sm_clock_mhz=1500,
    mem_clock_mhz=3201,
    temperature_c=40.0,
    throttle_reasons=ThrottleReason.POWER_CAP | ThrottleReason.SOFTWARE_THERMAL,
)


def fill(rows: PowerRows) -> None:
    rows.add_state(STATE)
    rows.add_power([PowerReading(time_ns=10, power_w=300.0), PowerReading(time_ns=20, power_w=310.0)])
    rows.add_counter(30, 12.5)
    rows.add_memory_power(PowerReading(time_ns=40, power_w=90.0))


def test_rows_are_sorted_and_null_where_nothing_was_read() -> None:
    rows = PowerRows("GPU-0", None)
    fill(rows)
    frame = rows.take()
    assert frame.schema == pl.Schema(POWER)
    assert frame.rows() == [
        (10, "GPU-0", 300.0, None, None, None, None, None, None),
        (15, "GPU-0", None, 1500, 3201, 40.0, None, 0x24, None),
        (20, "GPU-0", 310.0, None, None, None, None, None, None),
        (30, "GPU-0", None, None, None, None, 12.5, None, None),
        (40, "GPU-0", None, None, None, None, None, None, 90.0),
    ]
    assert rows.take().is_empty()
    assert rows.take().schema == pl.Schema(POWER)


def test_reasons_that_the_gpu_does_not_say_are_null_and_none_is_0() -> None:
    rows = PowerRows("GPU-0", None)
    for time_ns, reasons in ((1, None), (2, ThrottleReason.NONE)):
        rows.add_state(
            StateReading(
                time_ns=time_ns, sm_clock_mhz=None, mem_clock_mhz=None, temperature_c=None, throttle_reasons=reasons
            )
        )
    assert rows.take()["event_reasons"].to_list() == [None, 0]


def test_looking_back_keeps_the_rows_and_clearing_does_not() -> None:
    rows = PowerRows("GPU-0", None)
    fill(rows)
    assert rows.look_back(20)["time_ns"].to_list() == [20, 30, 40]
    rows.clear()
    assert rows.take().is_empty()


def test_a_batch_holds_what_is_new() -> None:
    batches: list[pl.DataFrame] = []
    rows = PowerRows("GPU-0", batches.append)
    rows.send_batch()
    assert batches == []
    fill(rows)
    rows.take()
    rows.send_batch()
    rows.add_counter(50, 13.0)
    rows.send_batch()
    rows.send_batch()
    assert [batch["time_ns"].to_list() for batch in batches] == [[10, 15, 20, 30, 40], [50]]
