"""A trial's energy by every source that it has: the columns of its row, and why a source could not be used."""

from dataclasses import dataclass
from typing import Any

from runner.analysis.energy.counter import CounterBackwardsError, compare_with_counter, estimate_counter
from runner.analysis.energy.trace import EdgeNotCoveredError, EnergyEstimate, TraceGapError, estimate_trace
from runner.analysis.window.gpu_state import readings_in_window
from runner.analysis.window.verdicts import Verdict
from runner.results.measurement import Measurement
from runner.results.sensors import ASSUMED_PERIOD_S, EnergySource, SensorFindings

MIN_UPDATES_IN_WINDOW = 100
MIN_AVERAGES_IN_WINDOW = 20
"""Of a power reading that averages over more than its period: then what it smears over the end of the window, at worst
half an average at the power of the load, is 2.5 % of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyAccount:
    """What a trial's sources say."""

    row: dict[str, Any]
    """The energy columns of `tables.TRIALS`."""
    disagreement: float | None
    """(trace - counter) / counter over one interval; None where it cannot be told, or is within what the trace may
    have missed."""
    problems: list[Verdict]


def account_energy(measurement: Measurement) -> EnergyAccount:
    """Return a trial's energy by trace and counter, the better of the two as `energy_j`."""
    start_ns, end_ns, sensors = measurement.start_ns, measurement.end_ns, measurement.sensors
    problems: list[Verdict] = []
    trace = counter = comparison = None
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
    if comparison and measurement.counter_start and measurement.counter_end:
        ticks = measurement.counter_start, measurement.counter_end
        # A tick inside the window: the machine's clock was set meanwhile, and when it ticked is not known.
        if ticks[0].time_ns <= start_ns and ticks[1].time_ns >= end_ns:
            counter = estimate_counter(measurement.power, ticks, start_ns, end_ns, sensors)
    source, chosen = _choose(trace, counter, sensors)
    if source is not None and (end_ns - start_ns) * 1e-9 < min_window_s(source, sensors):
        problems.append("window_too_short")
    if source is None and not problems:
        problems.append("energy_unknown")
    in_window = readings_in_window(measurement).drop_nulls("power_w")
    gaps_ns = in_window["time_ns"].sort().diff().drop_nulls()
    power_source = sensors.power_source if sensors else "samples"
    row = {
        "energy_j": chosen.energy_j if chosen else None,
        "energy_uncertainty_j": chosen.uncertainty_j if chosen else None,
        "energy_source": source,
        "power_source": power_source if in_window.height else None,
        "energy_trace_j": trace.energy_j if trace else None,
        "energy_counter_j": counter.energy_j if counter else None,
        "counter_interval_j": comparison.counter_j if comparison else None,
        "counter_interval_trace_j": comparison.trace_j if comparison else None,
        "num_power_samples": in_window.height,
        "max_power_gap_s": int(gaps_ns.max()) * 1e-9 if len(gaps_ns) else None,  # type: ignore[arg-type]
    }
    disagreement = comparison.disagreement if comparison and comparison.is_conclusive else None
    return EnergyAccount(row=row, disagreement=disagreement, problems=problems)


def min_window_s(source: EnergySource, sensors: SensorFindings | None = None) -> float:
    """Return the shortest window that an energy source can measure, in s.

    That is 100 of its updates (2 s by the sample buffer, 10 s by the counter), and 20 averages of a power reading that
    averages over more than its period (20 s by a one-second average).
    """
    if source == "counter":
        return _hundred(sensors.period_s("counter") if sensors else ASSUMED_PERIOD_S["counter"])
    power_source = (sensors.power_source if sensors else None) or "samples"
    if sensors is None:
        return _hundred(ASSUMED_PERIOD_S[power_source])
    period_s, window_s = sensors.period_s(power_source), sensors.averaging_window_s(power_source)
    return max(_hundred(period_s), MIN_AVERAGES_IN_WINDOW * window_s if window_s > period_s else 0.0)


def _hundred(period_s: float) -> float:
    return round(MIN_UPDATES_IN_WINDOW * period_s, 1)  # a period is found to some µs only


def _choose(
    trace: EnergyEstimate | None, counter: EnergyEstimate | None, sensors: SensorFindings | None
) -> tuple[EnergySource | None, EnergyEstimate | None]:
    """The source that the probe chose, so that all trials of a GPU rest on the same; the other where it failed."""
    by_source: dict[EnergySource, EnergyEstimate | None] = {"trace": trace, "counter": counter}
    preferred: EnergySource = (sensors.energy_source if sensors else None) or "trace"
    for source in (preferred, *by_source):
        if by_source[source] is not None:
            return source, by_source[source]
    return None, None
