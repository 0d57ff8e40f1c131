"""Energy of a window: traces whose integral is known in closed form, and one real trace against its counter."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from runner.analysis.energy.counter import compare_with_counter
from runner.analysis.energy.trace import EdgeNotCoveredError, TraceGapError, estimate_trace, integrate_power
from tests.analysis.traces import at, make_findings, make_trace, sample, tick

REFERENCE = Path(__file__).parents[3] / "reference" / "h200_trace_mistral-7b.json"


def integrate(trace: pl.DataFrame, start_s: float, end_s: float, **options: float) -> float:
    return integrate_power(trace, at(start_s), at(end_s), **options)


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


# what a sensor does not see -------------------------------------------------------------------------------------------


def test_steady_power_leaves_nothing_to_state() -> None:
    estimate = estimate_trace(sample(lambda _: 300.0, 10.0), at(1.003), at(9.0))
    assert (estimate.energy_j, estimate.uncertainty_j) == (pytest.approx(300.0 * 7.997), 0.0)


@pytest.mark.parametrize("period_s", [0.02, 0.1])
def test_steps_are_covered_by_what_is_stated(period_s: float) -> None:
    """A load of 500 W on 100 W from anywhere between two samples to anywhere between two others."""
    rng = random.Random(1)
    findings = make_findings("samples", "trace", period_s=period_s)
    covered = 0
    for _ in range(200):
        on_s, off_s = 1.0 + rng.random(), 8.0 + rng.random()
        trace = sample(lambda t, on_s=on_s, off_s=off_s: 600.0 if on_s <= t < off_s else 100.0, 10.0, period_s)
        estimate = estimate_trace(trace, at(0.5), at(9.5), findings)
        truth_j = 100.0 * 9.0 + 500.0 * (off_s - on_s)
        assert estimate.uncertainty_j < 1.1 * 1.96 * 500.0 * period_s * (2 / 12) ** 0.5
        covered += abs(estimate.energy_j - truth_j) <= estimate.uncertainty_j
    assert covered >= 190


def test_what_changes_faster_than_the_samples_is_stated_by_their_number() -> None:
    rng = random.Random(2)
    covered = 0
    for _ in range(200):
        trace = sample(lambda _: rng.choice([100.0, 600.0]), 10.0, 0.1)
        estimate = estimate_trace(trace, at(0.0), at(10.0), make_findings("instant", "trace"))
        assert estimate.uncertainty_j == pytest.approx(1.96 * 250.0 * 0.1 * 100**0.5, rel=0.35)  # from 100 readings
        covered += abs(estimate.energy_j - 3500.0) <= estimate.uncertainty_j
    assert 180 <= covered <= 199


def test_a_mean_over_the_whole_period_misses_nothing_but_its_edges() -> None:
    """Readings that lie end to end: bursts inside a period are in them."""
    trace = sample(lambda t: 400.0 if round(t * 10) % 2 else 100.0, 10.0, 0.1)
    points = estimate_trace(trace, at(0.5), at(9.5), make_findings("instant", "trace", window_s=0.0))
    means = estimate_trace(trace, at(0.5), at(9.5), make_findings("instant", "trace", window_s=0.1))
    assert means.uncertainty_j < 0.1 * points.uncertainty_j


def average(power_j: Callable[[float], float], end_s: float, window_s: float = 1.0) -> pl.DataFrame:
    """Readings 0.1 s apart of the mean over the window before; `power_j` is the integral of the power from 0 on."""
    times_s = [0.1 * k for k in range(round(end_s / 0.1) + 1)]
    return make_trace((t, (power_j(t) - power_j(t - window_s)) / window_s) for t in times_s)


@pytest.mark.parametrize("length_s", [20.0, 20.3, 20.98])
def test_one_second_averages_laid_end_to_end_have_no_lag_and_no_smear(length_s: float) -> None:
    """600 W from the window's start to its end, 100 W around it: the plain integral loses a quarter second of 500 W."""
    start_s, end_s = 3.0, 3.0 + length_s

    def energy_j(t: float) -> float:
        return 100.0 * t + 500.0 * (min(max(t, start_s), end_s) - start_s)

    trace = average(energy_j, end_s + 1.2)
    findings = make_findings("average", "trace", window_s=1.0)
    estimate = estimate_trace(trace, at(start_s), at(end_s), findings)
    assert estimate.energy_j == pytest.approx(600.0 * length_s, rel=1e-6)
    assert integrate(trace, start_s, end_s) == pytest.approx(600.0 * length_s - 250.0, abs=1.0)


def test_averages_must_reach_a_window_further_than_the_end() -> None:
    trace = average(lambda t: 300.0 * t, 10.5)
    with pytest.raises(EdgeNotCoveredError, match=r"ends 0\.500 s early"):
        estimate_trace(trace, at(2.0), at(10.0), make_findings("average", "trace", window_s=1.0))


def test_a_gap_in_the_averages_is_an_error() -> None:
    trace = average(lambda t: 300.0 * t, 12.0)
    holed = trace.filter(~pl.col("time_ns").is_between(at(5.0), at(5.5)))
    with pytest.raises(TraceGapError, match=r"0\.700 s"):
        estimate_trace(holed, at(2.0), at(10.0), make_findings("average", "trace", window_s=1.0))


def test_a_reading_belongs_to_the_middle_of_what_it_averages() -> None:
    """A ramp read as the mean of the 0.1 s before: half of that late, and so 50 W/s times 0.05 s too low throughout."""
    trace = average(lambda t: 100.0 * t + 25.0 * t * t, 12.0, window_s=0.1)
    estimate = estimate_trace(trace, at(2.0), at(10.0), make_findings("instant", "trace", window_s=0.1))
    assert estimate.energy_j == pytest.approx(100.0 * 8.0 + 25.0 * (100.0 - 4.0))


# a real GPU --------------------------------------------------------------------------------------------------------


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
