"""What a GPU's power sensors are like, found by watching them, and which of them to measure with.

`probe_sensors` reads for three seconds and sets nothing. It finds update periods and the time of a call on any GPU. An
averaging window shows only while power varies, best under a step of load. At rest the finding says that it is unknown,
so a worker watches again while its first engine warms up.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from runner.hardware.gpu import Gpu, GpuInfo
from runner.hardware.sensors.series import Updates, cumulate, find_period_s, find_window_s, jumps, repeats
from runner.hardware.sensors.watch import SensorWatch, WatchedSensors
from runner.results.sensors import EnergySource, PowerSource, SensorFinding, SensorFindings, SensorName
from runner.timebase import TimeSource

PROBE_S = 3.0
"""Long enough for 30 updates of a sensor with a period of 100 ms, and for three windows of one second."""
TRACE_REACH_S = 0.05
"""The longest update period and averaging window with which a power trace is better than a counter that ticks every
100 ms."""


def probe_sensors(gpu: Gpu, time_source: TimeSource, *, seconds: float = PROBE_S) -> SensorFindings:
    """Watch a GPU's sensors and return what they are like, and which of them to measure with.

    Args:
        seconds: how long to watch. Under one second the averaging windows stay unknown.
    Raises: GpuLostError: the GPU no longer answers.
    """
    watch = SensorWatch(gpu, time_source)
    watch.start()
    time_source.sleep(seconds)
    return find_sensors(watch.stop())


def find_sensors(watched: WatchedSensors) -> SensorFindings:
    """Return what the readings show of the sensors, and which of them to measure with."""
    sensors = {name: _describe(name, finding, watched.updates) for name, finding in watched.sensors.items()}
    return _choose(watched.info, sensors)


def refine_findings(info: GpuInfo, at_rest: SensorFindings, under_load: SensorFindings) -> SensorFindings:
    """Return the findings of two watches together: those under load where it could find them, else those at rest."""
    earlier, later = at_rest.sensors, under_load.sensors
    return _choose(info, {name: _refine(earlier[name], later[name]) for name in earlier})


def _refine(earlier: SensorFinding, later: SensorFinding) -> SensorFinding:
    if not (earlier.supported and later.supported):  # a sensor that fails for a while is still there
        return earlier if earlier.supported else later
    tells_window = later.averaging_window_s is not None or later.averaging_window_max_s is not None
    return replace(
        later if tells_window or earlier.averaging_window_s is None else earlier,
        update_period_s=later.update_period_s or earlier.update_period_s,
        buffer_length=max((earlier.buffer_length, later.buffer_length), key=lambda length: length or 0),
        call_us=earlier.call_us,  # measured without a load
    )


def _describe(name: SensorName, finding: SensorFinding, updates: Mapping[SensorName, Updates]) -> SensorFinding:
    """Return a finding with the update period and the averaging window that the readings show."""
    if not finding.supported:
        return finding
    period_s = find_period_s(updates[name])
    finding = replace(finding, update_period_s=period_s)
    if period_s is None:
        return replace(finding, reason="it did not change often enough while it was watched to tell its period")
    return _see_share(finding, updates) if name == "counter" else _see_window(name, finding, period_s, updates)


def _see_window(
    name: SensorName, finding: SensorFinding, period_s: float, updates: Mapping[SensorName, Updates]
) -> SensorFinding:
    """Add the averaging window, by a source that resolves it, or an upper bound by how fast the reading changes."""
    seen = None
    if name != "samples" and len(updates["samples"]):
        seen = find_window_s(updates[name], cumulate(updates["samples"]))
    if seen is None:
        seen = find_window_s(updates[name], updates["counter"])
    if seen is not None and not seen[1]:
        return replace(finding, averaging_window_s=seen[0])
    bounds_s = [seen[0]] if seen is not None else []
    if jumps(updates[name]):
        bounds_s.append(2 * period_s)
    if bounds_s:
        reason = "its window is shorter than any other source here resolves"
        return replace(finding, averaging_window_max_s=min(bounds_s), reason=reason)
    if updates[name].shows_step:
        return replace(finding, reason="it follows a step of load slowly, and no other source here tells over what")
    return replace(finding, reason="power did not vary enough while it was watched to tell the averaging window")


def _see_share(finding: SensorFinding, updates: Mapping[SensorName, Updates]) -> SensorFinding:
    """Add the share of the time that the counter sees, by comparison with the power readings."""
    if updates["samples"].shows_step and find_window_s(_means(updates["counter"]), cumulate(updates["samples"])):
        return replace(finding, averaging_window_s=finding.update_period_s)
    for name in ("instant", "average"):
        same = repeats(updates["counter"], updates[name])
        if same:
            reason = f"it adds up the readings of {name!r}, and misses what they miss"
            return replace(finding, reason=reason)
        if same is False and jumps(updates[name]):
            return replace(finding, averaging_window_s=finding.update_period_s)
    return replace(finding, reason="nothing here tells whether it sees all of the time")


def _means(counter: Updates) -> Updates:
    """Return the mean power between a counter's ticks, stamped at the later one."""
    return Updates(counter.time_s[1:], np.diff(counter.value) / np.diff(counter.time_s))


def _choose(info: GpuInfo, sensors: Mapping[SensorName, SensorFinding]) -> SensorFindings:
    """Choose the power source that looks back the least, and its integral for the energy where it is fine enough."""
    found = SensorFindings(
        gpu_uuid=info.uuid,
        driver_version=info.driver_version,
        sensors=sensors,
        power_source=None,
        energy_source=None,
        choice="the GPU reports neither power nor energy",
    )
    has_counter = sensors["counter"].supported
    names: tuple[PowerSource, ...] = ("samples", "instant", "average")
    # Rounded to 10 ms: periods are found to some us, and of equal ones the first is taken.
    reaches_s = {name: round(found.reach_s(name), 2) for name in names if sensors[name].supported}
    if not reaches_s:
        only_counter = "no power reading, only the counter"
        return replace(found, energy_source="counter", choice=only_counter) if has_counter else found
    power_source = min(reaches_s, key=lambda name: reaches_s[name])
    period_s, reach_s = found.period_s(power_source), found.reach_s(power_source)
    shown = f"{power_source!r} changes every {period_s * 1e3:.0f} ms"
    if reach_s > period_s:
        shown += f" and is taken to average over {reach_s * 1e3:.0f} ms"
    energy_source: EnergySource = "counter" if has_counter and reach_s > TRACE_REACH_S else "trace"
    if energy_source == "counter":
        choice = f"{shown}: energy from the counter, which power is needed for at the edges only"
    else:
        choice = f"{shown}: energy from its integral" + ("" if has_counter else ", for want of a counter")
    return replace(found, power_source=power_source, energy_source=energy_source, choice=choice)
