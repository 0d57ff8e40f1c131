"""What a series of readings shows of its sensor: its update period and its averaging window. Pure functions on arrays.

Times are in s since any one instant, power is in W and energy in J. A series is in order of time.
"""

from dataclasses import dataclass

import numpy as np

MIN_UPDATES = 5
"""The fewest changes that show a period."""
MIN_RANGE_W = 0.2
"""Readings that vary by less may be the same power, rounded."""
MIN_CORRELATION = 0.9
"""The least squared correlation between a sensor and its prediction by a faster one, for the prediction to count."""
MIN_STEP = 0.3
"""Fraction of the highest reading by which power must vary to show a change of load, above noise and ripple."""
CANDIDATE_WINDOWS_S = (0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
"""Published averaging windows lie between 10 ms and 1 s."""


@dataclass(frozen=True)
class Updates:
    """The distinct readings of one sensor: [num_updates] stamps and values."""

    time_s: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def varies(self) -> bool:
        """Whether the readings differ by more than rounding."""
        return len(self) >= MIN_UPDATES and float(np.ptp(self.value)) >= MIN_RANGE_W

    @property
    def shows_step(self) -> bool:
        """Whether the readings show a change of load."""
        return self.varies and float(np.ptp(self.value)) >= MIN_STEP * float(self.value.max())


def find_updates(polled_s: np.ndarray, stamps_s: np.ndarray, values: np.ndarray) -> Updates:
    """Return when a polled sensor changed, and to what: by its own stamps where it has them, else by its values.

    Args:
        polled_s: [num_polls] times of the polls.
        stamps_s: [num_polls] stamps of the readings; the times of the polls where the sensor has no stamps.
        values: [num_polls] values of the readings.
    """
    changed = np.flatnonzero(np.diff(stamps_s) > 0) + 1
    if 2 * len(changed) > len(polled_s):  # a new stamp at each call is the time of the call
        changed = np.flatnonzero(np.diff(values) != 0) + 1
        return Updates((polled_s[changed - 1] + polled_s[changed]) / 2, values[changed])
    return Updates(stamps_s[changed], values[changed])


def find_period_s(updates: Updates) -> float | None:
    """Return how often a sensor changes; None where it changed too seldom to tell.

    Two equal readings in a row leave a gap of two periods. Such gaps are left out.
    """
    if len(updates) < MIN_UPDATES:
        return None
    gaps_s = np.diff(updates.time_s)
    usual_s = float(np.percentile(gaps_s, 20))
    return float(gaps_s[(gaps_s > 0.5 * usual_s) & (gaps_s < 1.5 * usual_s)].mean())


def jumps(updates: Updates) -> bool:
    """Return whether a sensor's readings jump by half their range between two updates when the load changes.

    A mean over several periods cannot jump so far, because each update renews only a part of it.
    """
    return updates.shows_step and 2 * float(np.abs(np.diff(updates.value)).max()) >= float(np.ptp(updates.value))


def cumulate(samples: Updates) -> Updates:
    """Return the integral of power samples by the trapezoid rule, with stamps in s and values in J."""
    energy_j = np.concatenate(
        ([0.0], np.cumsum(np.diff(samples.time_s) * (samples.value[1:] + samples.value[:-1]) / 2))
    )
    return Updates(samples.time_s, energy_j)


def find_window_s(updates: Updates, energy: Updates) -> tuple[float, bool] | None:
    """Return the averaging window of a power sensor, by comparison with a second sensor.

    Args:
        updates: the sensor's readings.
        energy: cumulative energy by the second sensor. Its period is the shortest window that it resolves.
    Returns: the window in s, and whether it is only an upper bound because it is the shortest one resolved; None where
        a sensor does not vary, or where no window fits.
    """
    resolution_s = float(np.median(np.diff(energy.time_s))) if len(energy) >= MIN_UPDATES else 0.0
    if not updates.varies or resolution_s <= 0:
        return None
    windows_s = [window_s for window_s in CANDIDATE_WINDOWS_S if window_s >= 0.9 * resolution_s]
    # All candidates are compared on the same readings, or the longest would have the fewest.
    inside = (updates.time_s - windows_s[-1] >= energy.time_s[0]) & (updates.time_s <= energy.time_s[-1])
    ends_s, shown_w = updates.time_s[inside], updates.value[inside]
    if len(ends_s) < MIN_UPDATES or float(np.ptp(shown_w)) < MIN_RANGE_W:
        return None
    best_s, best = 0.0, 0.0
    for window_s in windows_s:
        predicted_w = (_energy_at(energy, ends_s) - _energy_at(energy, ends_s - window_s)) / window_s
        if float(np.ptp(predicted_w)) >= MIN_RANGE_W:
            correlation = float(np.corrcoef(predicted_w, shown_w)[0, 1])
            if correlation > best:
                best_s, best = window_s, correlation
    return None if best**2 < MIN_CORRELATION else (best_s, best_s == windows_s[0])


def repeats(counter: Updates, power: Updates) -> bool | None:
    """Return whether an energy counter only adds up the readings of a power sensor.

    Args:
        counter: the counter's ticks, values in J.
        power: the sensor's readings, as often as the counter ticks.
    Returns: None where the readings show no change of load, or where the two cannot be compared.
    """
    period_s = find_period_s(counter)
    if not power.shows_step or period_s is None:
        return None
    # Divided by the period: the time between two ticks is only known to some percent.
    means_w = np.diff(counter.value) / period_s
    errors = []
    for shift in (-0.75, 0.25, 1.25):  # it is unknown which of the two the driver renews first
        shown = np.searchsorted(power.time_s, counter.time_s[1:] + shift * period_s) - 1
        inside = shown >= 0
        if np.count_nonzero(inside) >= MIN_UPDATES:
            errors.append(float(np.abs(means_w[inside] - power.value[shown[inside]]).max()))
    return min(errors) <= 0.1 * float(np.ptp(power.value)) if errors else None


def _energy_at(energy: Updates, times_s: np.ndarray) -> np.ndarray:
    energy_j: np.ndarray = np.interp(times_s, energy.time_s, energy.value)
    return energy_j
