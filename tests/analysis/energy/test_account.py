"""A trial's energy by every source: which one counts, and which windows are too short for it."""

import random
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from runner.analysis.energy.account import EnergyAccount, account_energy, min_window_s
from runner.results.measurement import CounterTick
from runner.results.sensors import EnergySource, PowerSource, SensorFindings
from tests.analysis.measurements import at as at_s
from tests.analysis.measurements import make_measurement, make_power
from tests.analysis.traces import make_findings


def account(end_s: float, **changes: Any) -> EnergyAccount:
    return account_energy(make_measurement([], end_s, **changes))


def with_counter_reading(end_s: float, power_w: float) -> pl.DataFrame:
    """No power at all; the counter's next tick after the one that ends the interval."""
    power = make_power(None, end_s)
    last = {"time_ns": at_s(end_s + 0.15), "energy_counter_total_j": 1000.0 + 500.0 * (end_s + 0.1) + 0.1 * power_w}
    rows = pl.DataFrame([dict.fromkeys(power.columns) | {"gpu_uuid": "GPU-0"} | last], schema=power.schema)
    return pl.concat([power, rows])


def test_without_findings_the_trace_counts_and_its_uncertainty_is_stated() -> None:
    energy = account(4.0).energy
    assert (energy.energy_source, energy.power_source) == ("trace", "samples")
    assert energy.energy_j == energy.energy_trace_j == pytest.approx(2000.0)
    assert energy.energy_counter_j == pytest.approx(2000.0)
    assert energy.energy_uncertainty_j == 0.0  # constant power hides nothing


@pytest.mark.parametrize("source", ["trace", "counter"])
def test_the_findings_choose_for_every_trial_of_a_gpu(source: EnergySource) -> None:
    found = replace(make_findings("samples", source, period_s=0.02), energy_source=source)
    energy = account(12.0, sensors=found).energy
    assert energy.energy_source == source
    assert energy.energy_j == getattr(energy, f"energy_{source}_j")


def test_where_the_chosen_source_failed_the_other_counts_and_a_verdict_says_so() -> None:
    found = make_findings("samples", "counter", period_s=0.02)
    backwards = CounterTick(time_ns=at_s(12.05), energy_j=1.0)
    fallen = account(12.0, sensors=found, counter_end=backwards)
    assert fallen.energy.energy_source == "trace"
    assert fallen.problems == ("counter_backwards",)
    holed = make_power(500.0, 12.0).filter(~pl.col("time_ns").is_between(at_s(5.0), at_s(6.0)))
    bridged = account(12.0, power=holed)
    assert bridged.energy.energy_source == "counter"
    assert bridged.problems == ("trace_gap",)
    assert bridged.energy.energy_j == pytest.approx(6000.0)


def test_a_gpu_without_power_readings_has_no_gap_in_them() -> None:
    found = make_findings(None, "counter", counter_window_s=0.1)
    measured = account(12.0, sensors=found, power=with_counter_reading(12.0, 500.0))
    assert measured.problems == ()
    assert (measured.energy.energy_source, measured.energy.power_source) == ("counter", None)
    assert measured.energy.energy_j == pytest.approx(6000.0)
    assert 0 < measured.energy.energy_uncertainty_j < 10.0


def test_without_any_source_there_is_no_energy_and_no_uncertainty() -> None:
    nothing = account(4.0, power=make_power(None, 4.0), counter_start=None, counter_end=None)
    assert nothing.energy.energy_j is None
    assert nothing.energy.energy_uncertainty_j is None
    assert nothing.problems == ("edge_uncovered",)


def test_sources_are_said_to_disagree_only_by_more_than_the_trace_may_have_missed() -> None:
    assert account(12.0).disagreement is None  # they agree
    counter_end = CounterTick(time_ns=at_s(12.05), energy_j=1000.0 + 0.95 * 500.0 * 12.1)
    assert account(12.0, counter_end=counter_end).disagreement == pytest.approx(1 / 0.95 - 1)
    # A reading each 0.1 s of a load that jumps between 200 and 800 W: over 12 s good to some 10 %.
    rng = random.Random(4)
    power = make_power(500.0, 12.0).filter(pl.col("power_w").is_null() | (pl.int_range(pl.len()) % 5 == 0))
    power = power.with_columns(
        power_w=pl.when(pl.col("power_w").is_not_null()).then(
            pl.Series([rng.choice([200.0, 800.0]) for _ in range(power.height)])
        )
    )
    measured = account(12.0, power=power, sensors=make_findings("instant", "counter", period_s=0.1))
    assert abs(measured.energy.counter_interval_trace_j / measured.energy.counter_interval_j - 1) > 0.02
    assert measured.disagreement is None


@pytest.mark.parametrize(("step_s", "problems", "disagrees"), [(1.0, ["trace_gap"], False), (-1.0, [], True)])
def test_a_machine_whose_clock_is_set_meanwhile_is_noticed(step_s: float, problems: list[str], disagrees: bool) -> None:
    """Requests are timed by the monotonic clock; the driver stamps its samples by the clock that was set."""
    at_work = make_power(500.0, 12.0).filter(pl.col("time_ns") <= at_s(12.0))
    at_rest = make_power(100.0, 15.0).filter(pl.col("time_ns") > at_s(12.0))
    power = pl.concat([at_work, at_rest])
    is_later = pl.col("time_ns") > at_s(6.0)
    stamped = power.with_columns(pl.col("time_ns") + pl.when(is_later).then(round(step_s * 1e9)).otherwise(0))
    # Of what comes back from before its last sample, the sampler takes nothing.
    power = pl.concat([power.filter(~is_later), stamped.filter(is_later & (pl.col("time_ns") > at_s(6.0)))])
    counter_end = CounterTick(time_ns=at_s(12.05 + step_s), energy_j=1000.0 + 500.0 * 12.05 + 100.0 * 0.05)
    measured = account(12.0, power=power.sort("time_ns"), counter_end=counter_end)
    assert list(measured.problems) == problems
    assert (abs(measured.disagreement or 0.0) > 0.02) == disagrees
    assert measured.energy.energy_source == ("trace" if disagrees else "counter")
    assert (measured.energy.energy_counter_j is None) == disagrees


@pytest.mark.parametrize(
    ("source", "found", "shortest_s"),
    [
        ("trace", None, 2.0),
        ("counter", None, 10.0),
        ("trace", make_findings("samples", "trace", period_s=0.020001), 2.0),
        ("trace", make_findings("instant", "trace", period_s=0.1), 10.0),
        ("trace", make_findings("average", "trace", period_s=0.1, window_s=0.025), 10.0),
        ("trace", make_findings("average", "trace", period_s=0.1, window_s=1.0), 20.0),
        ("counter", make_findings("average", "counter", period_s=0.1, window_s=1.0), 10.0),
    ],
)
def test_the_shortest_window_follows_from_the_source(
    source: EnergySource, found: SensorFindings | None, shortest_s: float
) -> None:
    assert min_window_s(source, found) == shortest_s


@pytest.mark.parametrize(
    ("power_source", "end_s", "problems"),
    [("samples", 1.999, ["window_too_short"]), ("samples", 2.0, [])],
)
def test_a_window_too_short_for_its_source_is_a_problem(
    power_source: PowerSource, end_s: float, problems: list[str]
) -> None:
    found = make_findings(power_source, "trace", period_s=0.02)
    assert list(account(end_s, sensors=found).problems) == problems


def test_an_average_alone_refuses_what_it_would_have_to_guess() -> None:
    found = make_findings("average", "trace", period_s=0.1, window_s=1.0)
    power = make_power(500.0, 21.0)
    short = account(19.9, sensors=found, power=power, counter_start=None, counter_end=None)
    assert short.problems == ("window_too_short",)
    long = account(20.0, sensors=found, power=make_power(500.0, 22.0), counter_start=None, counter_end=None)
    assert long.problems == ()
    assert long.energy.energy_j == pytest.approx(10_000.0)
