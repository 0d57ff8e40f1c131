"""What a board's power sensors are like, found by watching them: `probe_sensors` reads for three seconds, sets nothing.

Update periods and the costs of calls can be seen on any board. Over what a reading averages shows only while power
varies, best under a step of load: a board that stands quite still keeps it to itself, and the finding says so.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np

from runner.hardware.gpu import Gpu, GpuError, GpuLostError, PowerReading
from runner.hardware.sensor_series import (
    Updates,
    cumulate,
    find_period_s,
    find_updates,
    find_window_s,
    jumps,
    repeats,
)
from runner.physics.clock import Clock, VirtualClock
from runner.results.sensors import EnergySource, PowerSource, SensorFinding, SensorFindings, SensorName

PROBE_S = 3.0
"""Thirty updates of a sensor that changes every 100 ms, three windows of one that averages over a second."""
POLL_S = 0.005
POLLS_PER_COUNTER_READ = 2
"""A call to the energy counter takes some 3 ms."""
POLLS_PER_DRAIN = 100
TRACE_PERIOD_S = 0.05
"""Power that is shown as often as this makes a better trace than a counter that ticks every 100 ms."""


def probe_sensors(gpu: Gpu, clock: Clock, *, seconds: float = PROBE_S) -> SensorFindings:
    """Watch a board's sensors and return what they are like, and which of them to measure with.

    Args:
        seconds: how long; under one second the averaging windows stay unknown.
    Raises: GpuLostError: the board no longer answers.
    """
    series: dict[SensorName, _Series] = {
        "instant": _Series(gpu.read_instant_power, clock),
        "average": _Series(gpu.read_average_power, clock),
        "counter": _Series(lambda: _read_counter(gpu, clock), clock),
    }
    buffer = _Buffer(gpu, clock)
    end_ns = clock.now_ns() + round(seconds * 1e9)
    num_polls = 0
    while clock.now_ns() < end_ns:
        series["instant"].poll()
        series["average"].poll()
        if num_polls % POLLS_PER_COUNTER_READ == 0:
            series["counter"].poll()
        if num_polls % POLLS_PER_DRAIN == 0:
            buffer.drain()
        num_polls += 1
        clock.sleep(POLL_S)
    buffer.drain()
    start_ns = end_ns - round(seconds * 1e9)
    updates = {name: one.updates(start_ns) for name, one in series.items()} | {"samples": buffer.updates(start_ns)}
    findings: dict[SensorName, SensorFinding] = {"samples": _describe("samples", buffer.finding(), updates)}
    for name, one in series.items():
        findings[name] = _describe(name, one.finding(), updates)
    return _choose(gpu, findings)


class _Series:
    """One sensor's readings as they were polled, and what the calls cost."""

    def __init__(self, read: Callable[[], PowerReading], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._polls: list[tuple[int, int, float]] = []
        self._costs_us: list[float] = []
        self._error: GpuError | None = None

    def poll(self) -> None:
        """Ask once; a sensor that never answered is asked once only."""
        if self._error is not None and not self._polls:
            return
        began_s = time.perf_counter()
        try:
            reading = self._read()
        except GpuLostError:
            raise
        except GpuError as error:
            self._error = error
            return
        self._costs_us.append((time.perf_counter() - began_s) * 1e6)
        self._polls.append((self._clock.now_ns(), reading.time_ns, reading.power_w))

    def updates(self, start_ns: int) -> Updates:
        """Return the distinct readings, their stamps in s since `start_ns`."""
        polled = np.array([(poll[0] - start_ns, poll[1] - start_ns) for poll in self._polls], dtype=float).reshape(
            -1, 2
        )
        values = np.array([poll[2] for poll in self._polls])
        return find_updates(polled[:, 0] * 1e-9, polled[:, 1] * 1e-9, values)

    def finding(self) -> SensorFinding:
        """Return whether it is there and what it costs."""
        if not self._polls:
            return SensorFinding(supported=False, reason=str(self._error))
        return SensorFinding(supported=True, call_us=_median_cost(self._costs_us, self._clock))


class _Buffer:
    """The driver's buffer of power samples."""

    def __init__(self, gpu: Gpu, clock: Clock) -> None:
        self._gpu = gpu
        self._clock = clock
        self._samples: dict[int, float] = {}
        self._costs_us: list[float] = []
        self._length = 0
        self._error: GpuError | None = None

    def drain(self) -> None:
        """Read the whole of it, what has been seen before too: that is how long it is."""
        began_s = time.perf_counter()
        try:
            readings = self._gpu.read_power_samples(0)
        except GpuLostError:
            raise
        except GpuError as error:
            self._error = error
            return
        self._costs_us.append((time.perf_counter() - began_s) * 1e6)
        self._length = max(self._length, len(readings))
        self._samples |= {reading.time_ns: reading.power_w for reading in readings}

    def updates(self, start_ns: int) -> Updates:
        """Return the samples, their stamps in s since `start_ns`."""
        stamps = sorted(self._samples)
        times_s = np.array([stamp - start_ns for stamp in stamps], dtype=float) * 1e-9
        return Updates(times_s, np.array([self._samples[stamp] for stamp in stamps]))

    def finding(self) -> SensorFinding:
        """Return whether it is there, how long it is and what it costs."""
        if not self._samples:
            return SensorFinding(supported=False, reason=str(self._error or "the driver's buffer stayed empty"))
        cost_us = _median_cost(self._costs_us, self._clock)
        return SensorFinding(supported=True, buffer_length=self._length, call_us=cost_us)


def _read_counter(gpu: Gpu, clock: Clock) -> PowerReading:
    """The energy counter in the shape of the other series: J in the place of W."""
    return PowerReading(time_ns=clock.now_ns(), power_w=gpu.read_energy_counter_j())


def _median_cost(costs_us: list[float], clock: Clock) -> float | None:
    return None if isinstance(clock, VirtualClock) else round(median(costs_us), 1)


def _describe(name: SensorName, finding: SensorFinding, updates: dict[SensorName, Updates]) -> SensorFinding:
    """Return a finding with what the readings tell of period and window."""
    if not finding.supported:
        return finding
    period_s = find_period_s(updates[name])
    finding = replace(finding, update_period_s=period_s)
    if period_s is None:
        return replace(finding, reason="it did not change often enough while it was watched to tell its period")
    return _see_share(finding, updates) if name == "counter" else _see_window(name, finding, updates)


def _see_window(name: SensorName, finding: SensorFinding, updates: dict[SensorName, Updates]) -> SensorFinding:
    """Over what a power reading averages: by a source that resolves it, else bounded by how fast it can change."""
    seen = None
    if name != "samples" and len(updates["samples"]):
        seen = find_window_s(updates[name], cumulate(updates["samples"]))
    if seen is None and name != "samples":
        seen = find_window_s(updates[name], updates["counter"])
    if seen is not None and not seen[1]:
        return replace(finding, averaging_window_s=seen[0])
    if seen is not None:
        reason = "its window is shorter than any other source here resolves"
        return replace(finding, averaging_window_max_s=seen[0], reason=reason)
    if jumps(updates[name]):
        reason = "it follows a step of load at once; how much of its period it sees, no other source here tells"
        return replace(finding, averaging_window_max_s=finding.update_period_s, reason=reason)
    return replace(finding, reason="power did not vary enough while it was watched to tell the averaging window")


def _see_share(finding: SensorFinding, updates: dict[SensorName, Updates]) -> SensorFinding:
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


def _choose(gpu: Gpu, findings: dict[SensorName, SensorFinding]) -> SensorFindings:
    sources: tuple[PowerSource, ...] = ("samples", "instant", "average")
    power_source = next((name for name in sources if findings[name].supported), None)
    chosen = SensorFindings(
        gpu_uuid=gpu.info.uuid,
        driver_version=gpu.info.driver_version,
        sensors=findings,
        power_source=power_source,
        energy_source=None,
        choice="the board shows neither power nor energy",
    )
    has_counter = findings["counter"].supported
    if power_source is None:
        return (
            replace(chosen, energy_source="counter", choice="no power reading, only the counter")
            if has_counter
            else chosen
        )
    period_s = chosen.period_s(power_source)
    shown = f"{power_source!r} changes every {period_s * 1e3:.0f} ms"
    energy_source: EnergySource = "counter" if has_counter and period_s > TRACE_PERIOD_S else "trace"
    if energy_source == "counter":
        choice = f"{shown}: energy from the counter, which power is needed for at the edges only"
    else:
        choice = f"{shown}: energy from its integral" + ("" if has_counter else ", for want of a counter")
    return replace(chosen, energy_source=energy_source, choice=choice)
