"""What the GPU did in a window, from hand-made readings."""

from dataclasses import asdict
from typing import Any

import polars as pl
import pytest

from runner.analysis.window.gpu_state import (
    MAX_UNSEEN_S,
    THROTTLE_REASONS,
    GpuState,
    describe_gpu_state,
    throttled_share,
)
from runner.results.measurement import EdgeReading
from runner.results.tables import TRIALS
from runner.spec.request import Step
from runner.spec.throttle import ThrottleReason
from tests.analysis.measurements import AT_1500_MHZ, START_NS, at, make_even_measurement, make_power


def describe(power: pl.DataFrame | None = None, **changes: Any) -> GpuState:
    power = make_power(500.0, 4.0) if power is None else power
    return describe_gpu_state(make_even_measurement(power=power, **changes))


def replace_readings(column: str, value: Any, where: pl.Expr) -> pl.DataFrame:
    """The even window's readings, those of a column replaced where a condition holds."""
    is_replaced = where & pl.col(column).is_not_null()
    return make_power(500.0, 4.0).with_columns(pl.when(is_replaced).then(value).otherwise(column).alias(column))


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(describe())) <= set(TRIALS)


# clocks --------------------------------------------------------------------------------------------------------------


def test_clocks_are_the_median_and_the_5th_percentile_of_the_window_alone() -> None:
    low = (pl.col("time_ns") < START_NS) | pl.col("time_ns").is_between(at(0), at(0.35))
    state = describe(replace_readings("sm_clock_mhz", 300, low))
    # 4 of the window's 40 readings are low: a tenth, which the median does not see and the 5th percentile does.
    assert (state.sm_clock_mhz, state.sm_clock_mhz_p05, state.mem_clock_mhz) == (1500.0, 300.0, 3201.0)


def test_the_clock_of_a_phase_is_the_mean_of_what_was_read_in_its_steps() -> None:
    def step(end_s: float, num_prefill_tokens: int, num_decode_tokens: int) -> Step:
        return Step(
            time_ns=at(end_s),
            num_prefill_tokens=num_prefill_tokens,
            num_decode_tokens=num_decode_tokens,
            num_running=2,
        )

    # One second of prompts at 1500 MHz, one of both alike, one of decoding at 1980, then nothing.
    steps = [step(1.0, 100, 2), step(2.0, 8, 8), step(3.0, 0, 2)]
    power = make_power(500.0, 4.0).with_columns(
        sm_clock_mhz=pl.when(pl.col("sm_clock_mhz").is_null())
        .then(None)
        .when(pl.col("time_ns") <= at(1.0))
        .then(1500)
        .when(pl.col("time_ns").is_between(at(2.0), at(3.0), closed="right"))
        .then(1980)
        .otherwise(300)
    )
    state = describe(power, steps=steps)
    assert (state.prefill_sm_clock_mhz, state.decode_sm_clock_mhz) == (1500.0, 1980.0)
    state = describe(power, steps=steps[:1])
    assert (state.prefill_sm_clock_mhz, state.decode_sm_clock_mhz) == (1500.0, None)
    state = describe(power)
    assert (state.prefill_sm_clock_mhz, state.decode_sm_clock_mhz) == (None, None)


def test_readings_under_the_requested_clock_are_a_share_and_unknown_at_the_default() -> None:
    power = replace_readings("sm_clock_mhz", 1485, pl.col("time_ns").is_between(at(0), at(0.35)))
    assert describe(power, identity=AT_1500_MHZ).sm_clock_below_fraction == pytest.approx(0.1)
    assert describe(power).sm_clock_below_fraction is None
    blind = make_power(500.0, 4.0, sm_clock_mhz=None)
    assert describe(blind, identity=AT_1500_MHZ).sm_clock_below_fraction is None


# throttling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasons", "fraction"),
    [
        (ThrottleReason.NONE, 0.0),
        (ThrottleReason.IDLE, 0.0),
        (ThrottleReason.APPLICATION_CLOCKS | ThrottleReason.DISPLAY_CLOCK, 0.0),
        (ThrottleReason.SYNC_BOOST, 0.0),
        (ThrottleReason.POWER_CAP, 1.0),
        (ThrottleReason.HARDWARE_SLOWDOWN, 1.0),
        (ThrottleReason.SOFTWARE_THERMAL, 1.0),
        (ThrottleReason.HARDWARE_THERMAL, 1.0),
        (ThrottleReason.POWER_BRAKE, 1.0),
        (ThrottleReason.POWER_CAP | ThrottleReason.IDLE, 1.0),
    ],
)
def test_throttling_is_what_slows_a_gpu_down(reasons: ThrottleReason, fraction: float) -> None:
    assert describe(make_power(500.0, 4.0, event_reasons=int(reasons))).throttled_fraction == fraction


def test_throttling_is_a_share_of_the_readings_and_unknown_without_any() -> None:
    power = replace_readings("event_reasons", 0x40, pl.col("time_ns") < at(1.0))
    assert describe(power).throttled_fraction == 0.25
    assert throttled_share(power.clear(), THROTTLE_REASONS) is None
    blind = describe(make_power(500.0, 4.0, event_reasons=None, sm_clock_mhz=None, temperature_c=None))
    assert (blind.throttled_fraction, blind.sm_clock_mhz, blind.sm_clock_mhz_p05) == (None, None, None)
    assert (blind.temperature_c_start, blind.temperature_c_end) == (None, None)


def test_throttle_times_are_what_the_counters_gained_and_unknown_where_they_cannot_be() -> None:
    start = EdgeReading(throttled_power_s=10.0, throttled_thermal_s=5.0, throttled_other_s=None)
    end = EdgeReading(throttled_power_s=11.5, throttled_thermal_s=0.5, throttled_other_s=3.0)
    state = describe(edge_start=start, edge_end=end)
    # The thermal counter was reset meanwhile; the other one could not be read at the start.
    assert (state.throttled_power_s, state.throttled_thermal_s, state.throttled_other_s) == (1.5, None, None)


# temperature, limit, settling ----------------------------------------------------------------------------------------


def test_temperature_is_the_windows_first_and_last() -> None:
    power = make_power(500.0, 4.0).with_columns(
        temperature_c=pl.when(pl.col("temperature_c").is_not_null()).then(40.0 + (pl.col("time_ns") - START_NS) * 1e-9)
    )
    state = describe(power)
    assert (state.temperature_c_start, state.temperature_c_end) == (pytest.approx(40.005), pytest.approx(43.905))


def test_the_limit_is_the_one_at_the_end_and_settling_and_persistence_are_carried_over() -> None:
    edges = {"edge_start": EdgeReading(power_limit_w=700.0), "edge_end": EdgeReading(power_limit_w=500.0)}
    state = describe(**edges, settle_s=0.2, persistence_mode=True)
    assert (state.power_limit_w, state.settle_s, state.persistence_mode) == (500.0, 0.2, True)


@pytest.mark.parametrize("column", ["sm_clock_mhz", "temperature_c", "event_reasons"])
@pytest.mark.parametrize("unseen_s", [MAX_UNSEEN_S - 0.2, MAX_UNSEEN_S + 0.2])
def test_a_sensor_that_is_silent_for_a_second_says_nothing_of_the_window(column: str, unseen_s: float) -> None:
    """At either end, or inside: what half of the readings show does not stand for the whole window."""
    for begin_s in (0.0, 1.0, 4.0 - unseen_s):
        silent = pl.col("time_ns").is_between(at(begin_s), at(begin_s + unseen_s))
        state = asdict(describe(replace_readings(column, None, silent)))
        name = {"temperature_c": "temperature_c_end", "event_reasons": "throttled_fraction"}.get(column, column)
        assert (state[name] is None) == (unseen_s > MAX_UNSEEN_S), begin_s
