"""What a simulated GPU did, as functions of time: its power, the exact integral, its clocks and its temperature.

A GPU's log of activity and its settings (`physics/gpu_state.py`) enter. The exact values leave. Next: `module.py`
samples, rounds and delays them as a driver does.
"""

import math
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from runner.hardware.simulated.rates import PartSums, StepRates
from runner.hardware.simulated.sensor_profiles import Habit
from runner.physics.gpu_model import AT_REST, GpuModel, StepParts
from runner.physics.gpu_state import Activity, GpuState
from runner.spec.throttle import ThrottleReason

IDLE_CLOCK_AFTER_S = 10.0
"""Time without work after which an unlocked GPU falls to its lowest clock."""
COUNTED_REASONS = (
    (ThrottleReason.POWER_CAP, ThrottleReason.POWER_BRAKE),
    (ThrottleReason.SOFTWARE_THERMAL, ThrottleReason.HARDWARE_THERMAL),
    (ThrottleReason.SYNC_BOOST,),
)
"""The reasons whose cumulative times the driver counts, in groups.

Where several reasons of a group hold, the first one is counted. So the times of a group add up to the time in which any
of its reasons held.
"""
AMBIENT_C = 28.0
KELVIN_PER_WATT = 0.055
THERMAL_TIME_CONSTANT_S = 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Instant:
    """The GPU at one instant."""

    power_w: float
    sm_clock_mhz: int
    mem_clock_mhz: int
    throttle_reasons: ThrottleReason
    temperature_c: float


class GpuHistory:
    """A GPU's past as steps of constant power, kept up to date with its files.

    The steps follow each other from when the driver loaded, and the last one is open. Columns are arrays: an hour of
    15 ms engine steps takes some megabytes, and every question is one bisection.
    """

    def __init__(self, model: GpuModel, directory: Path, loaded_ns: int, counter: Habit | None = None) -> None:
        self._model = model
        self._counter = counter
        self._directory = directory
        self._loaded_ns = loaded_ns
        self._lock = threading.RLock()
        """NVML may be called from several threads at once: the sampler's and the worker's."""
        self._restart()

    def at(self, time_ns: int) -> Instant:
        """Return the GPU's state at an instant, as the log has it so far."""
        with self._lock:
            self._refresh()
            i = max(bisect_right(self._start_ns, time_ns) - 1, 0)
            return Instant(
                power_w=self._power_w[i],
                sm_clock_mhz=self._sm_clock_mhz[i],
                mem_clock_mhz=self._mem_clock_mhz[i],
                throttle_reasons=ThrottleReason(self._throttle_reasons[i]),
                temperature_c=_relax(self._temperature_c[i], self._power_w[i], (time_ns - self._start_ns[i]) * 1e-9),
            )

    def powers_w(self, times_ns: Sequence[int]) -> list[float]:
        """Return the power at each of some instants."""
        with self._lock:
            self._refresh()
            return [self._power_w[max(bisect_right(self._start_ns, time_ns) - 1, 0)] for time_ns in times_ns]

    def energy_j(self, time_ns: int) -> float:
        """Return the exact integral of the power from the loading of the driver to an instant."""
        with self._lock:
            self._refresh()
            return self._energy_at(time_ns)

    def means_w(self, ends_ns: Sequence[int], window_ns: int) -> list[float]:
        """Return the mean power over the window before each instant, at most since the driver loaded."""
        with self._lock:
            starts_ns = [max(end_ns - window_ns, self._loaded_ns) for end_ns in ends_ns]
            powers_w = self.powers_w(ends_ns)
            return [
                (self._energy_at(end_ns) - self._energy_at(start_ns)) / ((end_ns - start_ns) * 1e-9)
                if start_ns < end_ns
                else power_w
                for start_ns, end_ns, power_w in zip(starts_ns, ends_ns, powers_w, strict=True)
            ]

    def counted_j(self, time_ns: int) -> float:
        """Return what the energy counter has counted by an instant: the energy that it saw, scaled to the whole time.

        Raises: ValueError: the GPU has no counter.
        """
        with self._lock:
            if self._counter is None:
                raise ValueError("this GPU has no energy counter")
            self._refresh()
            i = max(bisect_right(self._start_ns, time_ns) - 1, 0)
            seen_j = self._seen_j[i] + self._power_w[i] * self._seen_ns(self._start_ns[i], time_ns) * 1e-9
            return seen_j * (self._counter.period_ns / self._counter.window_ns)

    def part_sums(self, time_ns: int) -> PartSums:
        """Return the exact integrals of what the parts did, from the loading of the driver to an instant."""
        with self._lock:
            self._refresh()
            i = max(bisect_right(self._start_ns, time_ns) - 1, 0)
            return self._rates.sum_until(i, max(time_ns - self._start_ns[i], 0) * 1e-9)

    def memory_mean_w(self, end_ns: int, window_ns: int) -> float:
        """Return the memory's mean power over the window before an instant, at most since the driver loaded."""
        start_ns = min(max(end_ns - window_ns, self._loaded_ns), end_ns - 1)
        with self._lock:
            memory_j = self.part_sums(end_ns).memory_j - self.part_sums(start_ns).memory_j
        return memory_j / ((end_ns - start_ns) * 1e-9)

    def throttled_ns(self, reason: ThrottleReason, time_ns: int) -> int:
        """Return how long a reason of `COUNTED_REASONS` was counted, from the loading of the driver to an instant."""
        with self._lock:
            self._refresh()
            i = max(bisect_right(self._start_ns, time_ns) - 1, 0)
            lasts = reason in _find_counted(self._throttle_reasons[i])
            return self._throttled_ns[reason][i] + (max(time_ns - self._start_ns[i], 0) if lasts else 0)

    def _energy_at(self, time_ns: int) -> float:
        i = max(bisect_right(self._start_ns, time_ns) - 1, 0)
        return self._energy_j[i] + self._power_w[i] * max(time_ns - self._start_ns[i], 0) * 1e-9

    def _restart(self) -> None:
        self._state = GpuState(self._directory)
        self._num_settings = self._num_conditions = 0
        self._start_ns = array("q")
        self._power_w = array("d")
        self._sm_clock_mhz = array("l")
        self._mem_clock_mhz = array("l")
        self._throttle_reasons = array("l")
        self._energy_j = array("d")
        self._seen_j = array("d")
        self._temperature_c = array("d")
        self._rates = StepRates()
        self._throttled_ns = {reason: array("q") for group in COUNTED_REASONS for reason in group}
        self._num_settled = 0
        """Number of steps before the open idle tail. The tail is made anew whenever something happens."""
        self._worked_until_ns = 0
        self._last_gap_end_ns = 0

    def _refresh(self) -> None:
        """Read what was logged and set since the last call."""
        settings, conditions = self._state.settings_history(), self._state.conditions_history()
        changes_ns = [change.time_ns for change in settings[self._num_settings :]]
        changes_ns += [change.time_ns for change in conditions[self._num_conditions :]]
        if changes_ns:
            if min(changes_ns) < self._last_gap_end_ns:
                # Another process wrote a change that reaches back into an idle stretch made before.
                self._restart()
                settings, conditions = self._state.settings_history(), self._state.conditions_history()
            self._num_settings, self._num_conditions = len(settings), len(conditions)
            self._truncate()
        activities = self._state.read_new_activity()
        if activities:
            self._truncate()
            for activity in activities:
                self._append_activity(activity)
            self._num_settled = len(self._start_ns)
        if len(self._start_ns) == self._num_settled:
            for step in self._idle_steps(self._idle_from_ns(), None):
                self._append(*step)

    def _idle_from_ns(self) -> int:
        return self._worked_until_ns or self._loaded_ns

    def _append_activity(self, activity: Activity) -> None:
        start_ns, end_ns = max(activity.start_ns, self._idle_from_ns()), activity.end_ns
        if end_ns <= start_ns:
            return
        if start_ns > self._idle_from_ns():
            for step in self._idle_steps(self._idle_from_ns(), start_ns):
                self._append(*step)
            self._last_gap_end_ns = start_ns
        self._append(
            start_ns,
            activity.power_w,
            round(activity.sm_clock_mhz),
            round(activity.mem_clock_mhz),
            activity.throttle_reasons,
            parts=activity.parts,
        )
        self._worked_until_ns = end_ns

    def _idle_steps(self, start_ns: int, end_ns: int | None) -> Iterator[tuple[int, float, int, int, ThrottleReason]]:
        """Yield the steps of a stretch without work, up to `end_ns`, or without end where it is None."""
        model = self._model
        settle_ns = round(model.settle_s * 1e9)
        changes = {change.time_ns + settle_ns for change in self._state.settings_history()}
        changes |= {change.time_ns for change in self._state.conditions_history()}
        fall_ns = start_ns + round(IDLE_CLOCK_AFTER_S * 1e9) if self._worked_until_ns else start_ns
        for time_ns in sorted({start_ns, fall_ns, *(t for t in changes if t > start_ns)}):
            if end_ns is not None and time_ns >= end_ns:
                return
            point, conditions = self._state.point_at(model, time_ns), self._state.conditions_at(time_ns)
            is_idle = not conditions.foreign_power_w
            may_fall = point.sm_clock_mhz is None or point.sm_clock_is_ceiling
            if is_idle and time_ns >= fall_ns and may_fall:
                asked_mhz = model.sm_clocks_mhz[0]
            else:
                asked_mhz = point.sm_clock_mhz or model.sm_clocks_mhz[-1]
            sm_clock_mhz, reasons = conditions.hold_down(asked_mhz)
            mem_clock_mhz = point.mem_clock_mhz or model.mem_clocks_mhz[-1]
            power_w = model.idle_power_w(sm_clock_mhz, mem_clock_mhz) + conditions.foreign_power_w
            yield time_ns, power_w, sm_clock_mhz, mem_clock_mhz, reasons | ThrottleReason.IDLE if is_idle else reasons

    def _append(
        self,
        start_ns: int,
        power_w: float,
        sm_clock_mhz: int,
        mem_clock_mhz: int,
        reasons: ThrottleReason,
        *,
        parts: StepParts = AT_REST,
    ) -> None:
        lasted_s = 0.0
        if self._start_ns:
            lasted_s = (start_ns - self._start_ns[-1]) * 1e-9
            energy_j = self._energy_j[-1] + self._power_w[-1] * lasted_s
            seen_j = self._seen_j[-1] + self._power_w[-1] * self._seen_ns(self._start_ns[-1], start_ns) * 1e-9
            temperature_c = _relax(self._temperature_c[-1], self._power_w[-1], lasted_s)
            counted = _find_counted(self._throttle_reasons[-1])
            for reason, throttled_ns in self._throttled_ns.items():
                lasted_ns = start_ns - self._start_ns[-1] if reason in counted else 0
                throttled_ns.append(throttled_ns[-1] + lasted_ns)
        else:
            energy_j, seen_j, temperature_c = 0.0, 0.0, _steady_temperature_c(self._model.idle_low_w)
            for throttled_ns in self._throttled_ns.values():
                throttled_ns.append(0)
        self._start_ns.append(start_ns)
        self._power_w.append(power_w)
        self._sm_clock_mhz.append(sm_clock_mhz)
        self._mem_clock_mhz.append(mem_clock_mhz)
        self._throttle_reasons.append(reasons)
        self._energy_j.append(energy_j)
        self._seen_j.append(seen_j)
        self._temperature_c.append(temperature_c)
        rest_w = self._model.memory_rest_w(mem_clock_mhz)  # the memory never draws less
        self._rates.append(replace(parts, memory_power_w=max(parts.memory_power_w, rest_w)), lasted_s)

    def _seen_ns(self, start_ns: int, end_ns: int) -> int:
        """Return how much of an interval the energy counter sees."""
        if self._counter is None:
            return 0
        start_ns, end_ns = start_ns - self._loaded_ns, max(end_ns, start_ns) - self._loaded_ns
        return self._counter.seen_ns(end_ns) - self._counter.seen_ns(start_ns)

    def _truncate(self) -> None:
        """Drop the open idle tail."""
        columns: list[array[int] | array[float]] = [
            self._start_ns,
            self._power_w,
            self._sm_clock_mhz,
            self._mem_clock_mhz,
            self._throttle_reasons,
            self._energy_j,
            self._seen_j,
            self._temperature_c,
            *self._throttled_ns.values(),
        ]
        for column in columns:
            del column[self._num_settled :]
        self._rates.truncate(self._num_settled)


@cache
def _find_counted(reasons: int) -> frozenset[ThrottleReason]:
    """Return which of some reasons the driver counts: the first of each group."""
    firsts = (next((reason for reason in group if reasons & reason), None) for group in COUNTED_REASONS)
    return frozenset(reason for reason in firsts if reason is not None)


def _steady_temperature_c(power_w: float) -> float:
    return AMBIENT_C + KELVIN_PER_WATT * power_w


def _relax(temperature_c: float, power_w: float, seconds: float) -> float:
    """Return the temperature after some time at constant power, as a first-order response."""
    steady_c = _steady_temperature_c(power_w)
    return steady_c + (temperature_c - steady_c) * math.exp(-max(seconds, 0.0) / THERMAL_TIME_CONSTANT_S)
