"""Energy of a window: traces whose integral is known in closed form, and one real trace against its counter."""

import json
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from runner.analysis.energy import (
    CounterBackwardsError,
    CounterComparison,
    EdgeNotCoveredError,
    TraceGapError,
    compare_with_counter,
    integrate_power,
    scale_counter_to_window,
)
from runner.results.measurement import CounterTick

EPOCH_NS = 1_795_000_000_000_000_000
REFERENCE = Path(__file__).parents[2] / "reference" / "h200_trace_mistral-7b.json"


def at(seconds: float) -> int:
    return EPOCH_NS + round(seconds * 1e9)


def make_trace(rows: Iterable[tuple[float, float | None]]) -> pl.DataFrame:
    times_s, watts = zip(*rows, strict=True)
    return pl.DataFrame(
        {"time_ns": [at(t) for t in times_s], "power_w": watts}, schema={"time_ns": pl.Int64, "power_w": pl.Float64}
    )


def sample(power_w: Callable[[float], float], end_s: float, period_s: float = 0.02) -> pl.DataFrame:
    """A sample each period from 0 to `end_s`, both included."""
    times_s = [k * period_s for k in range(round(end_s / period_s) + 1)]
    return make_trace((t, power_w(t)) for t in times_s)


def integrate(trace: pl.DataFrame, start_s: float, end_s: float, **options: float) -> float:
    return integrate_power(trace, at(start_s), at(end_s), **options)


def tick(seconds: float, energy_j: float) -> CounterTick:
    return CounterTick(time_ns=at(seconds), energy_j=energy_j)


# closed forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 10.0), (1.0, 9.0), (1.003, 8.991), (2.0, 2.005), (3.0, 3.0)])
def test_constant_power_is_power_times_time(start_s: float, end_s: float) -> None:
    assert integrate(sample(lambda _: 300.0, 10.0), start_s, end_s) == pytest.approx(300.0 * (end_s - start_s))


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 4.0), (0.5, 3.5), (0.507, 3.493), (1.001, 1.009)])
def test_a_ramp_is_integrated_exactly_with_edges_between_samples(start_s: float, end_s: float) -> None:
    exact_j = 100.0 * (end_s - start_s) + 50.0 / 2 * (end_s**2 - start_s**2)
    assert integrate(sample(lambda t: 100.0 + 50.0 * t, 4.0), start_s, end_s) == pytest.approx(exact_j, rel=1e-9)


def test_a_step_costs_at_most_half_a_period_of_the_difference() -> None:
    trace = sample(lambda t: 100.0 if t < 1.0 else 700.0, 2.0)
    assert integrate(trace, 0.0, 2.0) == pytest.approx(800.0, abs=600.0 * 0.02 / 2 + 1e-9)
    assert integrate(trace, 0.0, 0.9) == pytest.approx(90.0)
    assert integrate(trace, 1.0, 2.0) == pytest.approx(700.0)


def test_100_w_for_10_s_then_300_w_for_10_s_are_4000_j() -> None:
    unchanged = [(0.1 * k, 100.0) for k in range(100)] + [(0.1 * k, 300.0) for k in range(100, 201)]
    # The step between two samples 0.1 s apart is a ramp to the trapezoid rule: half of 200 W times 0.1 s.
    assert integrate(make_trace(unchanged), 0.0, 20.0) == pytest.approx(4000.0, abs=200.0 * 0.1 / 2 + 1e-9)


def test_only_the_changes_of_that_trace_are_refused_and_would_have_been_2000_j() -> None:
    changes = make_trace([(0.0, 100.0), (10.0, 300.0), (20.0, 300.0)])
    with pytest.raises(TraceGapError, match=r"10\.000 s between two power samples, at most 0\.25 s"):
        integrate(changes, 0.0, 20.0)
    assert integrate(make_trace([(0.0, 100.0), (10.0, 300.0)]), 0.0, 10.0, max_gap_s=10.0) == pytest.approx(2000.0)


def test_a_window_shorter_than_a_period_lies_on_the_line_between_two_samples() -> None:
    trace = make_trace([(0.0, 100.0), (0.02, 300.0)])
    # At 5 ms 150 W, at 15 ms 250 W.
    assert integrate(trace, 0.005, 0.015) == pytest.approx(200.0 * 0.010)


def test_the_parts_of_a_window_sum_to_the_window() -> None:
    rng = random.Random(1)
    trace = make_trace((0.02 * k + rng.uniform(-0.008, 0.008), rng.uniform(80, 700)) for k in range(1, 500))
    cuts = [0.1, 0.7301, 3.0, 3.0001, 9.5]
    parts_j = sum(integrate(trace, a, b) for a, b in pairwise(cuts))
    assert parts_j == pytest.approx(integrate(trace, cuts[0], cuts[-1]), rel=1e-9)


# what a real trace looks like ----------------------------------------------------------------------------------------


def test_order_repetition_and_rows_without_power_change_nothing() -> None:
    rows: list[tuple[float, float | None]] = [(0.02 * k, 100.0 + k) for k in range(101)]
    clean_j = integrate(make_trace(rows), 0.11, 1.91)
    messy = [*rows, *rows[10:20], *((0.1 * k + 0.005, None) for k in range(20))]
    random.Random(0).shuffle(messy)
    assert integrate(make_trace(messy), 0.11, 1.91) == pytest.approx(clean_j, rel=1e-12)


def test_of_two_readings_with_one_stamp_the_first_counts() -> None:
    doubled = make_trace([(0.0, 100.0), (0.1, 100.0), (0.1, 999.0), (0.2, 100.0)])
    assert integrate(doubled, 0.0, 0.2) == pytest.approx(20.0)


# errors --------------------------------------------------------------------------------------------------------------


def test_a_gap_counts_only_where_the_window_needs_it() -> None:
    trace = make_trace([(t, 200.0) for t in (0.0, 0.2, 0.4, 1.0, 1.2, 1.4)])
    with pytest.raises(TraceGapError, match=r"0\.600 s"):
        integrate(trace, 0.1, 1.3)
    with pytest.raises(TraceGapError):
        integrate(trace, 0.5, 1.3)  # the window begins inside the gap
    assert integrate(trace, 1.0, 1.3) == pytest.approx(60.0)
    assert integrate(trace, 0.0, 0.4) == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("start_s", "end_s", "message"),
    [
        (-0.5, 1.0, r"begins 0\.500 s late$"),
        (1.0, 2.25, r"it ends 0\.250 s early$"),
        (-1.0, 3.0, r"begins 1\.000 s late and it ends 1\.000 s early"),
    ],
)
def test_an_edge_outside_the_trace_is_an_error_that_says_by_how_much(
    start_s: float, end_s: float, message: str
) -> None:
    with pytest.raises(EdgeNotCoveredError, match=message):
        integrate(sample(lambda _: 100.0, 2.0), start_s, end_s)


def test_no_sample_at_all_is_an_error_and_not_0_j() -> None:
    with pytest.raises(EdgeNotCoveredError, match="no power sample at all"):
        integrate(make_trace([(0.0, None), (1.0, None)]), 0.0, 1.0)


def test_a_window_that_ends_before_it_starts_is_an_error() -> None:
    with pytest.raises(ValueError, match="ends 1000000000 ns before it starts"):
        integrate(sample(lambda _: 100.0, 2.0), 1.5, 0.5)


# the counter ---------------------------------------------------------------------------------------------------------


def test_sources_are_compared_from_tick_to_tick() -> None:
    comparison = compare_with_counter(sample(lambda _: 200.0, 5.0), tick(0.5, 1000.0), tick(4.5, 1784.0))
    assert comparison is not None
    assert (comparison.counter_j, comparison.trace_j) == (784.0, pytest.approx(800.0))
    assert comparison.disagreement == pytest.approx(800 / 784 - 1)


def test_without_a_counter_or_with_one_tick_only_there_is_no_comparison() -> None:
    trace = sample(lambda _: 200.0, 5.0)
    assert compare_with_counter(trace, None, tick(4.5, 1.0)) is None
    assert compare_with_counter(trace, tick(4.5, 1.0), None) is None
    assert compare_with_counter(trace, tick(4.5, 1.0), tick(4.5, 1.0)) is None


def test_a_trace_that_does_not_reach_the_ticks_leaves_the_counter_alone() -> None:
    comparison = compare_with_counter(sample(lambda _: 200.0, 5.0), tick(0.5, 0.0), tick(5.5, 1000.0))
    assert comparison == CounterComparison(counter_j=1000.0, trace_j=None)
    assert comparison.disagreement is None


def test_a_counter_that_goes_backwards_is_an_error() -> None:
    with pytest.raises(CounterBackwardsError, match=r"from 5000\.000 J back to 12\.500 J"):
        compare_with_counter(sample(lambda _: 200.0, 5.0), tick(0.5, 5000.0), tick(4.5, 12.5))


def test_the_counters_excess_at_the_edges_is_scaled_away_by_the_trace() -> None:
    """400 W in a window from 1 to 3 s, 100 W around it; ticks at 0.9 and 3.1 s; a counter that reads 5 % high."""
    trace = sample(lambda t: 400.0 if 1.0 <= t <= 3.0 else 100.0, 4.0, period_s=0.001)
    counter_j = 1.05 * (400.0 * 2.0 + 100.0 * 0.2)
    comparison = compare_with_counter(trace, tick(0.9, 0.0), tick(3.1, counter_j))
    assert comparison is not None
    window_j = integrate(trace, 1.0, 3.0)
    assert scale_counter_to_window(comparison, 2.2, 2.0, window_j) == pytest.approx(1.05 * 800.0, rel=1e-3)
    # By time alone the idle edges count as busy ones.
    without_trace = CounterComparison(counter_j=counter_j, trace_j=None)
    assert scale_counter_to_window(without_trace, 2.2, 2.0, None) == pytest.approx(counter_j * 2.0 / 2.2)


# a real board --------------------------------------------------------------------------------------------------------


def test_on_a_real_h200_trace_and_counter_agree_from_tick_to_tick() -> None:
    """17 s of prefill and decoding with idle between: 20 ms samples against the counter (docs/measurement.md)."""
    recording = json.loads(REFERENCE.read_text())
    trace = make_trace(recording["power"])
    ticks = [tick(time_s, energy_j) for time_s, energy_j in recording["counter"]]
    covered = [t for t in ticks if t.time_ns <= trace["time_ns"].max()]
    assert (covered[-1].time_ns - covered[0].time_ns) * 1e-9 > 13.8
    comparison = compare_with_counter(trace, covered[0], covered[-1])
    assert comparison is not None
    assert comparison.disagreement is not None
    assert abs(comparison.disagreement) < 0.003


def test_on_a_real_h200_every_batch_of_prefill_and_decoding_draws_the_cap() -> None:
    recording = json.loads(REFERENCE.read_text())
    trace = make_trace(recording["power"])
    for scheduled_s, _, last_token_s in recording["batches"]:
        mean_w = integrate(trace, scheduled_s, last_token_s) / (last_token_s - scheduled_s)
        assert 650 < mean_w < 720
