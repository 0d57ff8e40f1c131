"""What a GPU's power sensors are like, found by watching them, and which of them to measure with.

Update periods and the costs of calls can be seen on any GPU: `probe_sensors` reads for three seconds, sets nothing.
Over what a reading averages shows only while power varies, best under a step of load; a GPU that stands quite still
keeps it to itself, and the finding says so. So a worker watches once more while its first engine warms up.
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
"""Thirty updates of a sensor that changes every 100 ms, three windows of one that averages over a second."""
TRACE_REACH_S = 0.05
"""Power that is shown as often as this, and averages over no more, makes a better trace than a counter that ticks every
100 ms."""


def probe_sensors(gpu: Gpu, time_source: TimeSource, *, seconds: float = PROBE_S) -> SensorFindings:
    """Watch a GPU's sensors and return what they are like, and which of them to measure with.

    Args:
        seconds: how long; under one second the averaging windows stay unknown.
    Raises: GpuLostError: the GPU no longer answers.
    """
    watch = SensorWatch(gpu, time_source)
    watch.start()
    time_source.sleep(seconds)
    return find_sensors(watch.stop())


def find_sensors(watched: WatchedSensors) -> SensorFindings:
    """Return what the readings tell of the sensors, and which of them to measure with."""
    sensors = {name: _describe(name, finding, watched.updates) for name, finding in watched.sensors.items()}
    return _choose(watched.info, sensors)


def refine_findings(info: GpuInfo, at_rest: SensorFindings, under_load: SensorFindings) -> SensorFindings:
    """Return what two watches tell together: what the one under load could tell, else what was known before."""
    earlier, later = at_rest.sensors, under_load.sensors
    return _choose(info, {name: _refine(earlier[name], later[name]) for name in earlier})


def _refine(earlier: SensorFinding, later: SensorFinding) -> SensorFinding:
    if not (earlier.supported and later.supported):  # one that fails for a while is still there
        return earlier if earlier.supported else later
    tells_window = later.averaging_window_s is not None or later.averaging_window_max_s is not None
    return replace(
        later if tells_window or earlier.averaging_window_s is None else earlier,
        update_period_s=later.update_period_s or earlier.update_period_s,
        buffer_length=max((earlier.buffer_length, later.buffer_length), key=lambda length: length or 0),
        call_us=earlier.call_us,  # with nothing beside it
    )


def _describe(name: SensorName, finding: SensorFinding, updates: Mapping[SensorName, Updates]) -> SensorFinding:
    """Return a finding with what the readings tell of period and window."""
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
    """Over what a power reading averages: by a source that resolves it, else bounded by how fast it can change."""
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
    """Whether the counter sees more than the power readings that change as often as it."""
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
    """The mean power of each of a counter's ticks, stamped at its end."""
    return Updates(counter.time_s[1:], np.diff(counter.value) / np.diff(counter.time_s))


def _choose(info: GpuInfo, sensors: Mapping[SensorName, SensorFinding]) -> SensorFindings:
    """Power from the source that looks back the least, energy from its integral where it is fine enough."""
    found = SensorFindings(
        gpu_uuid=info.uuid,
        driver_version=info.driver_version,
        sensors=sensors,
        power_source=None,
        energy_source=None,
        choice="the GPU shows neither power nor energy",
    )
    has_counter = sensors["counter"].supported
    names: tuple[PowerSource, ...] = ("samples", "instant", "average")
    # To 10 ms: periods are found to some us, and of equal ones the first is taken.
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
