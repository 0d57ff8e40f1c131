"""What verdicts need and no column holds, from hand-made readings."""

import polars as pl
import pytest

from runner.analysis.window.evidence import find_evidence, find_foreign_processes
from runner.results.measurement import EdgeReading
from runner.spec.throttle import ThrottleReason
from tests.analysis.measurements import at, make_even_measurement, make_power


def test_throttling_is_a_share_of_the_windows_readings_by_its_reason() -> None:
    reasons = (
        pl.when(pl.col("time_ns") < at(0.0))
        .then(int(ThrottleReason.HARDWARE_THERMAL))  # before the window
        .when(pl.col("time_ns") < at(1.0))
        .then(int(ThrottleReason.POWER_CAP))
        .when(pl.col("time_ns") < at(3.0))
        .then(int(ThrottleReason.SOFTWARE_THERMAL))
        .otherwise(0)
    )
    power = make_power(500.0, 4.0).with_columns(
        event_reasons=pl.when(pl.col("event_reasons").is_not_null()).then(reasons)
    )
    evidence = find_evidence(make_even_measurement(power=power))
    assert (evidence.capped_fraction, evidence.thermal_fraction) == (0.25, 0.5)
    blind = find_evidence(make_even_measurement(power=make_power(500.0, 4.0, event_reasons=None)))
    assert (blind.capped_fraction, blind.thermal_fraction) == (None, None)


def test_the_limit_at_the_start_and_what_the_engine_left_are_carried_over() -> None:
    evidence = find_evidence(
        make_even_measurement(
            edge_start=EdgeReading(power_limit_w=700.0),
            edge_end=EdgeReading(power_limit_w=500.0),
            memory_left_behind=True,
            prefix_cache_reset=False,
        )
    )
    assert evidence.power_limit_w_start == 700.0
    assert evidence.memory_left_behind
    assert not evidence.prefix_cache_reset


@pytest.mark.parametrize(
    ("ours", "at_start", "at_end", "foreign"),
    [
        ({7, 8}, {7, 8}, {7, 8}, set()),
        ({7, 8}, {7}, set(), set()),  # one of ours ended
        ({7, 8}, {7, 8}, {7, 8, 9}, {9}),
        ({7, 8}, {7, 8, 9}, {7, 8}, {9}),  # there since before the engine, or come since
        ({7, 8}, None, {7, 8, 9}, {9}),
        ({7, 8}, None, None, set()),
        (None, {9}, {9}, set()),  # the driver does not tell which are ours
        (set(), set(), set(), set()),  # a simulated GPU lists none
    ],
)
def test_a_process_that_is_not_our_engines_is_foreign(
    ours: set[int] | None, at_start: set[int] | None, at_end: set[int] | None, foreign: set[int]
) -> None:
    edge_start, edge_end = (
        EdgeReading(process_ids=None if ids is None else frozenset(ids)) for ids in (at_start, at_end)
    )
    engine_process_ids = None if ours is None else frozenset(ours)
    measurement = make_even_measurement(engine_process_ids=engine_process_ids, edge_start=edge_start, edge_end=edge_end)
    assert find_foreign_processes(measurement) == find_evidence(measurement).foreign_process_ids == foreign
