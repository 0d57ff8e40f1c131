"""The energy counter against the trace and by itself: intervals whose energy is known on paper."""

import random

import pytest

from runner.analysis.energy.counter import (
    CounterBackwardsError,
    CounterComparison,
    compare_with_counter,
    estimate_counter,
)
from tests.analysis.traces import at, make_findings, make_trace, sample, tick

# trace and counter ---------------------------------------------------------------------------------------------------


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


def test_a_difference_that_the_trace_alone_explains_is_no_disagreement() -> None:
    assert not CounterComparison(counter_j=1000.0, trace_j=1030.0, trace_uncertainty_j=31.0).is_conclusive
    assert CounterComparison(counter_j=1000.0, trace_j=1030.0, trace_uncertainty_j=29.0).is_conclusive


# the window ----------------------------------------------------------------------------------------------------------


def test_what_lies_between_the_edges_and_the_ticks_is_taken_off_by_a_fine_trace() -> None:
    """400 W in a window from 1 to 3 s, 100 W around it; ticks at 0.9 and 3.1 s; a counter that reads 5 % high."""
    trace = sample(lambda t: 400.0 if 1.0 <= t <= 3.0 else 100.0, 4.0, period_s=0.001)
    counter_j = 1.05 * (400.0 * 2.0 + 100.0 * 0.2)
    estimate = estimate_counter(trace, (tick(0.9, 0.0), tick(3.1, counter_j)), at(1.0), at(3.0))
    assert estimate.energy_j == pytest.approx(1.05 * 800.0, rel=1e-3)


def test_a_coarse_trace_gives_the_power_after_the_end_alone() -> None:
    """Readings 0.1 s apart: a trapezoid over the end would put half the load's power behind it."""
    trace = sample(lambda t: 400.0 if 1.0 <= t < 3.0 else 100.0, 4.0, period_s=0.1)
    ticks = tick(1.0, 0.0), tick(3.08, 808.0)
    found = make_findings("instant", "counter", period_s=0.1)
    estimate = estimate_counter(trace, ticks, at(1.0), at(3.0), found)
    assert estimate.energy_j == pytest.approx(800.0)


def test_a_counter_alone_takes_the_power_after_the_end_from_its_next_tick() -> None:
    rows = make_trace([(3.16, None)], counter={3.16: 816.0})
    ticks = tick(1.0, 0.0), tick(3.08, 808.0)
    found = make_findings(None, "counter")
    assert estimate_counter(rows, ticks, at(1.0), at(3.0), found).energy_j == pytest.approx(800.0)
    # Without it, the excess counts as the load's own: what is then stated covers that.
    blind = estimate_counter(rows.clear(), ticks, at(1.0), at(3.0), found)
    assert 0 < 800.0 - blind.energy_j < 30.0


def test_what_a_counter_may_have_missed_is_stated_where_nothing_shows_that_it_sees_all() -> None:
    rng = random.Random(3)
    trace = sample(lambda _: rng.choice([100.0, 400.0]), 12.0, period_s=0.1)
    ticks = tick(1.0, 0.0), tick(11.0, 2500.0)
    sees_all = make_findings("instant", "counter", period_s=0.1, counter_window_s=0.1)
    unknown = make_findings("instant", "counter", period_s=0.1)
    sure = estimate_counter(trace, ticks, at(1.0), at(11.0), sees_all)
    unsure = estimate_counter(trace, ticks, at(1.0), at(11.0), unknown)
    assert sure.energy_j == unsure.energy_j == 2500.0
    # A hundred independent readings of 100 or 400 W, which scatter by 150 W, 0.1 s each.
    assert unsure.uncertainty_j == pytest.approx(1.96 * 0.1 * 10 * 150.0, rel=0.25)
    assert sure.uncertainty_j < 5.0
