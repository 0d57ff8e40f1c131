"""Hand-made traces, ticks and findings about sensors."""

from collections.abc import Callable, Iterable, Mapping

import polars as pl

from runner.results.measurement import CounterTick
from runner.results.sensors import EnergySource, PowerSource, SensorFinding, SensorFindings

EPOCH_NS = 1_795_000_000_000_000_000


def at(seconds: float) -> int:
    return EPOCH_NS + round(seconds * 1e9)


def make_trace(
    rows: Iterable[tuple[float, float | None]], counter: Mapping[float, float] | None = None
) -> pl.DataFrame:
    times_s, watts = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "time_ns": [at(t) for t in times_s],
            "power_w": watts,
            "energy_counter_total_j": [(counter or {}).get(t) for t in times_s],
        },
        schema={"time_ns": pl.Int64, "power_w": pl.Float64, "energy_counter_total_j": pl.Float64},
    )


def sample(power_w: Callable[[float], float], end_s: float, period_s: float = 0.02) -> pl.DataFrame:
    """A sample each period from 0 to `end_s`, both included."""
    times_s = [k * period_s for k in range(round(end_s / period_s) + 1)]
    return make_trace((t, power_w(t)) for t in times_s)


def tick(seconds: float, energy_j: float) -> CounterTick:
    return CounterTick(time_ns=at(seconds), energy_j=energy_j)


def make_findings(
    power_source: PowerSource | None,
    energy_source: EnergySource,
    *,
    period_s: float = 0.1,
    window_s: float | None = None,
    counter_window_s: float | None = None,
) -> SensorFindings:
    """What a probe found of a GPU with one power source and a counter."""
    power = SensorFinding(
        supported=True, update_period_s=period_s, averaging_window_s=window_s, averaging_window_max_s=period_s
    )
    none = SensorFinding(supported=False, reason="not supported")
    sensors = {name: power if name == power_source else none for name in ("samples", "instant", "average")}
    counter = SensorFinding(supported=True, update_period_s=0.1, averaging_window_s=counter_window_s)
    return SensorFindings(
        gpu_uuid="GPU-0",
        driver_version="1",
        sensors=sensors | {"counter": counter},
        power_source=power_source,
        energy_source=energy_source,
        choice="for a test",
    )
