"""A trial's energy by every source that it has, and why a source could not be used.

A `Measurement` enters, an `EnergyAccount` leaves. Next: the trial's row and its verdicts.
"""

from dataclasses import dataclass
from typing import Literal

from runner.analysis.energy.counter import (
    CounterBackwardsError,
    CounterComparison,
    compare_with_counter,
    estimate_counter,
)
from runner.analysis.energy.trace import (
    EdgeNotCoveredError,
    EnergyEstimate,
    TraceGapError,
    estimate_trace,
    readings_in_window,
)
from runner.results.measurement import Measurement
from runner.results.sensors import ASSUMED_PERIOD_S, EnergySource, PowerSource, SensorFindings

SourceProblem = Literal["window_too_short", "trace_gap", "edge_uncovered", "counter_backwards", "energy_unknown"]
"""What is wrong with a trial's energy sources. Each is a verdict of the same name."""

MIN_UPDATES_IN_WINDOW = 100
MIN_AVERAGES_IN_WINDOW = 20
"""For a power reading that averages over more than its period. Such a reading smears at most half an average over the
end of the window. At the power of the load that is 2.5 % of the energy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowEnergy:
    """The energy columns of `tables.TRIALS`, in J; None where unknown."""

    energy_j: float | None
    energy_uncertainty_j: float | None
    energy_source: EnergySource | None
    power_source: PowerSource | None
    energy_trace_j: float | None
    energy_counter_j: float | None
    counter_interval_j: float | None
    counter_interval_trace_j: float | None
    num_power_samples: int
    max_power_gap_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyAccount:
    """A trial's energy, and what its sources say of each other."""

    energy: WindowEnergy
    disagreement: float | None
    """(trace - counter) / counter over one interval. None where one of them is missing, or where the difference is
    smaller than what the trace may have missed."""
    problems: tuple[SourceProblem, ...]


def account_energy(measurement: Measurement) -> EnergyAccount:
    """Return a trial's energy by trace and by counter, with the better of the two as `energy_j`."""
    start_ns, end_ns, sensors = measurement.start_ns, measurement.end_ns, measurement.sensors
    problems: list[SourceProblem] = []
    trace = comparison = None
    try:
        if sensors is None or sensors.power_source is not None:
            trace = estimate_trace(measurement.power, start_ns, end_ns, sensors)
    except TraceGapError:
        problems.append("trace_gap")
    except EdgeNotCoveredError:
        problems.append("edge_uncovered")
    try:
        comparison = compare_with_counter(
            measurement.power, measurement.counter_start, measurement.counter_end, sensors
        )
    except CounterBackwardsError:
        problems.append("counter_backwards")
    counter = _count_window(measurement) if comparison else None
    source, chosen = _choose(trace, counter, sensors)
    if source is not None and (end_ns - start_ns) * 1e-9 < min_window_s(source, sensors):
        problems.append("window_too_short")
    if source is None and not problems:
        problems.append("energy_unknown")
    return EnergyAccount(
        energy=_list_energies(measurement, source, chosen, trace=trace, counter=counter, comparison=comparison),
        disagreement=comparison.disagreement if comparison and comparison.is_conclusive else None,
        problems=tuple(problems),
    )


def min_window_s(source: EnergySource, sensors: SensorFindings | None = None) -> float:
    """Return the shortest window that an energy source can measure, in s.

    That is 100 updates of the source: 2 s by the sample buffer, 10 s by the counter. A power reading that averages over
    more than its period needs 20 averages as well: 20 s by a one-second average.
    """
    if source == "counter":
        return _hundred(sensors.period_s("counter") if sensors else ASSUMED_PERIOD_S["counter"])
    power_source = (sensors.power_source if sensors else None) or "samples"
    if sensors is None:
        return _hundred(ASSUMED_PERIOD_S[power_source])
    period_s, window_s = sensors.period_s(power_source), sensors.averaging_window_s(power_source)
    return max(_hundred(period_s), MIN_AVERAGES_IN_WINDOW * window_s if window_s > period_s else 0.0)


def _hundred(period_s: float) -> float:
    return round(MIN_UPDATES_IN_WINDOW * period_s, 1)  # the probe finds a period to within some µs


def _count_window(measurement: Measurement) -> EnergyEstimate | None:
    """Return the window's energy by the counter; None without a tick on either side of the window.

    A tick lies inside the window where the machine's time was set meanwhile. Then it is not known when it ticked.
    """
    first, last = measurement.counter_start, measurement.counter_end
    start_ns, end_ns = measurement.start_ns, measurement.end_ns
    if first is None or last is None or first.time_ns > start_ns or last.time_ns < end_ns:
        return None
    return estimate_counter(measurement.power, (first, last), start_ns, end_ns, measurement.sensors)


def _choose(
    trace: EnergyEstimate | None, counter: EnergyEstimate | None, sensors: SensorFindings | None
) -> tuple[EnergySource | None, EnergyEstimate | None]:
    """Return the source that the probe chose, so that all trials of a GPU rest on the same; the other if it failed."""
    by_source: dict[EnergySource, EnergyEstimate | None] = {"trace": trace, "counter": counter}
    preferred: EnergySource = (sensors.energy_source if sensors else None) or "trace"
    for source in (preferred, *by_source):
        if by_source[source] is not None:
            return source, by_source[source]
    return None, None


def _list_energies(
    measurement: Measurement,
    source: EnergySource | None,
    chosen: EnergyEstimate | None,
    *,
    trace: EnergyEstimate | None,
    counter: EnergyEstimate | None,
    comparison: CounterComparison | None,
) -> WindowEnergy:
    readings = readings_in_window(measurement).drop_nulls("power_w")
    gaps_ns = readings["time_ns"].sort().diff().drop_nulls()
    power_source = measurement.sensors.power_source if measurement.sensors else "samples"
    return WindowEnergy(
        energy_j=chosen.energy_j if chosen else None,
        energy_uncertainty_j=chosen.uncertainty_j if chosen else None,
        energy_source=source,
        power_source=power_source if readings.height else None,
        energy_trace_j=trace.energy_j if trace else None,
        energy_counter_j=counter.energy_j if counter else None,
        counter_interval_j=comparison.counter_j if comparison else None,
        counter_interval_trace_j=comparison.trace_j if comparison else None,
        num_power_samples=readings.height,
        max_power_gap_s=int(gaps_ns.max()) * 1e-9 if len(gaps_ns) else None,  # type: ignore[arg-type]
    )
