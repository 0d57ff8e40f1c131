"""Idle power: a sampler that runs while nothing is in flight enters, W leave."""

import polars as pl

from runner.hardware.sensors.sampler import PowerSampler
from runner.timebase import TimeSource

IDLE_S = 1.0
"""How long idle power is measured."""
IDLE_DELAY_S = 0.2
"""The wait between the last request and measuring idle power: ten samples of the sample buffer, past the fall from work
to rest. A sensor that averages over the past adds its averaging window."""


def measure_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """Return the GPU's mean power over `IDLE_S` without requests, in W; None where no sensor shows it."""
    time_source.sleep(IDLE_DELAY_S + sampler.reach_s)
    start_ns = time_source.now_ns()
    time_source.sleep(IDLE_S)
    end_ns = time_source.now_ns()
    sampler.wait_covered(end_ns)
    readings = sampler.look_back(start_ns)  # and leave them to the sampler: the next window needs the last of them
    mean_w = readings.filter(pl.col("time_ns") <= end_ns)["power_w"].drop_nulls().mean()
    return mean_w if isinstance(mean_w, float) else _count_idle_power(sampler, time_source)


def _count_idle_power(sampler: PowerSampler, time_source: TimeSource) -> float | None:
    """Return idle power by the energy counter, for GPUs that report no power."""
    start = sampler.mark_counter_tick()
    time_source.sleep(IDLE_S)
    end = sampler.mark_counter_tick()
    if start is None or end is None or end[1] < start[1]:
        return None
    return (end[1] - start[1]) / ((end[0] - start[0]) * 1e-9)
