"""The memory's part of a window's energy, by hand-made one-second means whose truth is known."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.analysis.energy.memory import MemoryEnergy, estimate_memory_energy
from runner.results.measurement import MeterReadings
from runner.results.tables import POWER
from tests.analysis.measurements import at, make_even_measurement

STEP_S = 0.001


def read_means(
    power_w: Callable[[np.ndarray], np.ndarray],
    end_s: float,
    *,
    phase_s: float = 0.0,
    late_s: float = 0.0,
    lost: tuple[float, float] = (0.0, 0.0),
) -> tuple[pl.DataFrame, float]:
    """Rows of one-second means a tick of 0.1 s apart, from 3 s before the window to a tick after it; the true energy.

    Args:
        phase_s: when a tick falls, after the window's start.
        late_s: how much later than the tick the reading is stamped.
        lost: an interval without readings.
    """
    times_s = np.arange(-5.0, end_s + 2.0, STEP_S)
    energy_j = np.concatenate(([0.0], np.cumsum(power_w(times_s + STEP_S / 2)))) * STEP_S
    edges_s = np.append(times_s, times_s[-1] + STEP_S)

    def energy_at(seconds: Any) -> Any:
        return np.interp(seconds, edges_s, energy_j)

    ticks_s = phase_s + 0.1 * np.arange(-30, round(end_s * 10) + 2)
    ticks_s = ticks_s[(ticks_s < lost[0]) | (ticks_s >= lost[1])]
    means_w = energy_at(ticks_s) - energy_at(ticks_s - 1.0)
    rows = [
        dict.fromkeys(POWER) | {"time_ns": at(t + late_s), "gpu_uuid": "GPU-0", "memory_power_w": w}
        for t, w in zip(ticks_s.tolist(), means_w.tolist(), strict=True)
    ]
    return pl.DataFrame(rows, schema=POWER), float(energy_at(end_s) - energy_at(0.0))


def estimate(rows: pl.DataFrame, end_s: float, **changes: Any) -> MemoryEnergy:
    measurement = make_even_measurement(power=rows, **changes)
    return estimate_memory_energy(measurement.__class__(**vars(measurement) | {"end_ns": at(end_s)}))


def block(load_w: float, end_s: float, before_w: float = 55.0) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where((t >= 0) & (t < end_s), load_w, np.where(t < 0, before_w, 55.0))


@pytest.mark.parametrize("end_s", [3.0, 4.35, 10.0, 33.7])
@pytest.mark.parametrize("before_w", [55.0, 145.0])
def test_steady_work_is_exact_whatever_came_before_it(end_s: float, before_w: float) -> None:
    rows, true_j = read_means(block(145.0, end_s, before_w), end_s)
    found = estimate(rows, end_s)
    assert found.memory_energy_j == pytest.approx(true_j, rel=0.005)
    assert found.memory_energy_reason is None


def test_an_average_that_reaches_back_is_not_taken_for_a_point() -> None:
    """The integral of the readings themselves would miss half a second of the rise: 45 of 435 J."""
    rows, true_j = read_means(block(145.0, 3.0), 3.0)
    inside = rows.filter(pl.col("time_ns").is_between(at(0), at(3.0)))
    naive_j = float(np.trapezoid(inside["memory_power_w"].to_numpy(), inside["time_ns"].to_numpy() * 1e-9))
    assert naive_j < true_j - 40
    assert abs((estimate(rows, 3.0).memory_energy_j or 0) - true_j) < 3


def test_the_interval_holds_the_truth_of_random_loads_and_late_stamps() -> None:
    rng = random.Random(0)
    covered = []
    for _ in range(200):
        end_s, period_s = rng.uniform(3.0, 20.0), rng.uniform(0.05, 4.0)
        high_w, low_w, share = rng.uniform(80, 145), rng.uniform(55, 80), rng.uniform(0.2, 0.9)

        def swing(t: np.ndarray, *, p: float = period_s, s: float = share, h: float = high_w, w: float = low_w,
                  e: float = end_s) -> np.ndarray:  # fmt: skip
            return np.where((t >= 0) & (t < e), np.where((t / p) % 1 < s, h, w), 55.0)

        rows, true_j = read_means(swing, end_s, phase_s=rng.uniform(0, 0.1), late_s=rng.uniform(0, 0.1))
        found = estimate(rows, end_s)
        assert found.memory_energy_j is not None
        assert found.memory_energy_uncertainty_j is not None
        assert found.memory_energy_uncertainty_j < 0.1 * true_j
        covered.append(abs(found.memory_energy_j - true_j) <= found.memory_energy_uncertainty_j)
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize(
    ("end_s", "options", "reason"),
    [
        (2.9, {}, "the window is shorter than 3 averages of 1 s each"),
        (8.0, {"lost": (4.0, 4.7)}, "0.80 s between two readings of the memory's power, at most 0.5 s allowed"),
        (8.0, {"lost": (0.0, 2.0)}, "2.10 s between two readings of the memory's power, at most 0.5 s allowed"),
        (8.0, {"lost": (-9.0, 1.35)}, "the readings of the memory's power begin 0.40 s late"),
        (8.0, {"lost": (7.55, 99.0)}, "the readings of the memory's power end 0.50 s before the window"),
    ],
)
def test_what_cannot_be_told_is_null_with_a_reason(end_s: float, options: dict[str, Any], reason: str) -> None:
    rows, _ = read_means(block(145.0, end_s), end_s, **options)
    assert estimate(rows, end_s) == MemoryEnergy(memory_energy_reason=reason)


def test_a_lost_reading_or_two_do_no_harm() -> None:
    rows, true_j = read_means(block(145.0, 8.0), 8.0, lost=(4.0, 4.3))
    assert estimate(rows, 8.0).memory_energy_j == pytest.approx(true_j, rel=0.005)


def test_without_readings_the_sampler_gives_the_reason() -> None:
    rows = pl.DataFrame(schema=POWER)
    said = estimate(rows, 4.0, meters=MeterReadings(memory_power_reason="not supported"))
    assert said == MemoryEnergy(memory_energy_reason="not supported")
    assert estimate(rows, 4.0) == MemoryEnergy(memory_energy_reason="the power of the GPU's memory was not read")
