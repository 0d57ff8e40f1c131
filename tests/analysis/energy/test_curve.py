"""Energy until any instant, on traces whose integral is known in closed form."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.analysis.energy.curve import EnergyCurve, energy_curve
from runner.analysis.energy.trace import integrate_power
from runner.results.measurement import Measurement
from runner.results.tables import POWER
from tests.analysis.measurements import at, make_even_measurement, make_measurement, make_power
from tests.analysis.traces import make_findings


def make_ramp(end_s: float, **changes: Any) -> Measurement:
    """A window in which power rises from 100 W by 50 W each second, sampled each 20 ms."""
    rows = [
        dict.fromkeys(POWER) | {"gpu_uuid": "GPU-0", "time_ns": at(0.02 * k), "power_w": 100.0 + 50.0 * 0.02 * k}
        for k in range(-10, round(end_s * 50) + 11)
    ]
    return make_measurement([], end_s, power=pl.DataFrame(rows, schema=POWER), **changes)


def require(curve: EnergyCurve | None) -> EnergyCurve:
    assert curve is not None
    return curve


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 4.0), (0.507, 3.493), (1.001, 1.009), (2.0, 2.0)])
def test_a_stretch_of_a_ramp_is_integrated_exactly(start_s: float, end_s: float) -> None:
    curve = require(energy_curve(make_ramp(4.0), 800.0))
    exact_j = 100.0 * (end_s - start_s) + 25.0 * (end_s**2 - start_s**2)
    assert curve.between(at(start_s), at(end_s)) == pytest.approx(exact_j, rel=1e-9)


def test_many_instants_are_read_at_once_in_any_shape() -> None:
    curve = require(energy_curve(make_even_measurement(), 2000.0))
    instants_ns = np.array([[at(0.0), at(1.0)], [at(0.25), at(4.0)]])
    energies_j = curve.until(instants_ns) - curve.until(np.array([at(0.0)]))
    assert energies_j == pytest.approx(np.array([[0.0, 500.0], [125.0, 2000.0]]))


def test_the_curve_is_the_trapezoid_rule_of_the_trace() -> None:
    rng = np.random.default_rng(1)
    power = make_power(500.0, 4.0).drop_nulls("power_w")
    power = power.with_columns(power_w=pl.Series(rng.uniform(100.0, 700.0, power.height)))
    measurement = make_even_measurement(power=power)
    total_j = integrate_power(power, at(0.0), at(4.0))
    curve = require(energy_curve(measurement, total_j))
    edges_ns = [at(seconds) for seconds in (0.0, 0.013, 1.5, 1.501, 3.99, 4.0)]
    for start_ns, end_ns in pairwise(edges_ns):
        assert curve.between(start_ns, end_ns) == pytest.approx(integrate_power(power, start_ns, end_ns), rel=1e-9)


def test_the_window_has_the_energy_that_its_row_states() -> None:
    """The counter may have given that energy, and reads some percent more or less than the trace."""
    curve = require(energy_curve(make_even_measurement(), 2100.0))
    assert curve.total_j == 2100.0
    assert curve.between(at(0.0), at(4.0)) == pytest.approx(2100.0)
    assert curve.between(at(1.0), at(2.0)) == pytest.approx(525.0)


def test_a_reading_reaches_as_far_as_the_next_one_or_as_far_as_it_averages() -> None:
    assert require(energy_curve(make_even_measurement(), 1.0)).reach_s == pytest.approx(0.02)
    points = make_findings("samples", "trace", period_s=0.02, window_s=0.0)
    assert require(energy_curve(make_even_measurement(sensors=points), 1.0)).reach_s == pytest.approx(0.02)
    means = make_findings("samples", "trace", period_s=0.02, window_s=0.05)
    assert require(energy_curve(make_even_measurement(sensors=means), 1.0)).reach_s == pytest.approx(0.05)
    # A window that is not known is at most as long as the bound that the probe found.
    bounded = make_findings("samples", "trace", period_s=0.08)
    assert require(energy_curve(make_even_measurement(sensors=bounded), 1.0)).reach_s == pytest.approx(0.08)


def test_readings_that_average_over_a_time_are_centred() -> None:
    """A ramp, read as the mean of the 0.1 s before each stamp, is 50 W/s x 0.05 s too low at its stamp."""
    means = make_findings("samples", "trace", period_s=0.02, window_s=0.1)
    late = make_ramp(4.0).power.with_columns(pl.col("power_w") - 50.0 * 0.05)
    measurement = make_measurement([], 3.9, power=late, sensors=means)
    exact_j = 100.0 * 3.9 + 25.0 * 3.9**2
    curve = require(energy_curve(measurement, exact_j))
    assert curve.between(at(1.0), at(2.0)) == pytest.approx(100.0 + 25.0 * 3.0, rel=1e-6)


def test_without_a_trace_of_the_whole_window_there_is_no_curve() -> None:
    power = make_power(500.0, 4.0)
    holed = power.filter(~pl.col("time_ns").is_between(at(1.0), at(1.5)))
    short = power.filter(pl.col("time_ns") < at(3.0))
    for broken in (power.clear(), make_power(None, 4.0), holed, short, make_power(0.0, 4.0)):
        assert energy_curve(make_even_measurement(power=broken), 2000.0) is None
