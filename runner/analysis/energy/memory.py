"""What the GPU's memory used of a window's energy, by readings that are means over the second before.

A `Measurement` enters, the memory's columns of `tables.TRIALS` leave. Next: the trial's row.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.analysis.energy.trace import Z_95
from runner.results.measurement import Measurement

AVERAGE_S = 1.0
"""What a reading averages over: measured on an H200."""
PERIOD_S = 0.1
"""How often a reading changes: measured on an H200. A stamp may be that of the call, so much later."""
MIN_AVERAGES = 3
"""One at each edge, and one between them."""
MAX_GAP_S = 0.5
"""Longest time between two readings. Half of what either of them averages over lies in the other as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEnergy:
    """The columns of `tables.TRIALS` about the GPU's memory."""

    memory_energy_j: float | None = None
    memory_energy_uncertainty_j: float | None = None
    memory_energy_reason: str | None = None


def estimate_memory_energy(measurement: Measurement) -> MemoryEnergy:
    """Return what the GPU's memory used of the window's energy, with a 95 % half-width; or why it is not known."""
    readings = measurement.power.select("time_ns", "memory_power_w").drop_nulls().unique("time_ns").sort("time_ns")
    length_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    if readings.is_empty():
        reason = measurement.meters.memory_power_reason
        return MemoryEnergy(memory_energy_reason=reason or "the power of the GPU's memory was not read")
    seconds, watts = _as_seconds(readings, measurement.start_ns)
    if problem := _find_problem(seconds, length_s):
        return MemoryEnergy(memory_energy_reason=problem)
    energy_j, variance_j2 = _lay_averages(seconds, watts, length_s)
    return MemoryEnergy(memory_energy_j=energy_j, memory_energy_uncertainty_j=Z_95 * variance_j2**0.5)


def _as_seconds(readings: pl.DataFrame, start_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps in s from the window's start, which doubles hold exactly enough, and W."""
    return (readings["time_ns"].to_numpy() - start_ns) * 1e-9, readings["memory_power_w"].to_numpy()


def _find_problem(seconds: np.ndarray, length_s: float) -> str | None:
    if length_s < MIN_AVERAGES * AVERAGE_S:
        return f"the window is shorter than {MIN_AVERAGES} averages of {AVERAGE_S:g} s each"
    if seconds[-1] < length_s:
        return f"the readings of the memory's power end {length_s - seconds[-1]:.2f} s before the window"
    if seconds[0] > AVERAGE_S:
        return f"the readings of the memory's power begin {seconds[0] - AVERAGE_S:.2f} s late"
    first = int(np.searchsorted(seconds, AVERAGE_S, side="right")) - 1
    last = int(np.searchsorted(seconds, length_s))
    widest_s = float(np.diff(seconds[first : last + 1]).max())
    if widest_s > MAX_GAP_S:
        return f"{widest_s:.2f} s between two readings of the memory's power, at most {MAX_GAP_S} s allowed"
    return None


def _lay_averages(seconds: np.ndarray, watts: np.ndarray, length_s: float) -> tuple[float, float]:
    """Return the energy in J, and its variance in J^2.

    Averages are laid end to end from the start and from the end of the window, so that none reaches beyond an edge.
    Where they meet, a stretch shorter than an average is left. Its power is taken from the average around its middle.
    It is laid at every place inside the window, and the mean is the energy. How far the places differ shows what the
    stretch may hide.
    """
    num_averages = int(length_s // AVERAGE_S)
    rest_s = length_s - num_averages * AVERAGE_S
    ends_s = AVERAGE_S * np.arange(1, num_averages + 1)
    from_start_j = AVERAGE_S * np.interp(ends_s, seconds, watts)
    from_end_j = AVERAGE_S * np.interp(ends_s + rest_s, seconds, watts)
    before_s = ends_s[:-1]
    stretch_j = rest_s * np.interp(before_s + (rest_s + AVERAGE_S) / 2, seconds, watts)
    laid_j = np.cumsum(from_start_j)[:-1] + stretch_j + np.cumsum(from_end_j[::-1])[::-1][1:]
    # The stamps may be late by up to a period. Then the window is shifted, and gains at one edge what it loses at the
    # other: each at most the edge's own power.
    edges_j = PERIOD_S / AVERAGE_S * np.array([from_start_j[0], from_end_j[-1]])
    # At a joint the reading changed from one value to the next at an unknown instant.
    later = np.minimum(np.searchsorted(seconds, ends_s), len(seconds) - 1)
    joints_j = AVERAGE_S * (watts[later] - watts[np.maximum(later - 1, 0)])
    variance_j2 = float(np.var(laid_j)) + (float(np.sum(edges_j**2)) + float(np.sum(joints_j**2))) / 12
    return float(np.mean(laid_j)), variance_j2
