"""What a series of readings tells of its sensor: when it changes, and over what it averages. Pure functions on arrays.

Times are s on any one clock, power is W, energy J; a series holds what was polled or drained, in order of time.
"""

from dataclasses import dataclass

import numpy as np

MIN_UPDATES = 5
"""Fewer changes tell no period."""
MIN_RANGE_W = 0.2
"""Readings that vary by less may be rounded ones of the same power."""
MIN_CORRELATION = 0.9
"""Squared, between a sensor and what a faster one predicts of it, for the prediction to be believed."""
MIN_STEP = 0.3
"""Share of the highest reading by which power must vary for a change of load to be told from noise and ripple."""
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
        """Whether the readings tell one instant from another."""
        return len(self) >= MIN_UPDATES and float(np.ptp(self.value)) >= MIN_RANGE_W

    @property
    def shows_step(self) -> bool:
        """Whether the load changed while power was watched."""
        return self.varies and float(np.ptp(self.value)) >= MIN_STEP * float(self.value.max())


def find_updates(polled_s: np.ndarray, stamps_s: np.ndarray, values: np.ndarray) -> Updates:
    """Return when a polled sensor changed, and to what: by its own stamps where it has them, else by its values.

    Args:
        polled_s: [num_polls] when it was asked.
        stamps_s: [num_polls] the stamps that it gave; those of the polls where it gave none.
        values: [num_polls] what it showed.
    """
    changed = np.flatnonzero(np.diff(stamps_s) > 0) + 1
    if 2 * len(changed) > len(polled_s):  # a stamp for every call says when it was called
        changed = np.flatnonzero(np.diff(values) != 0) + 1
        return Updates((polled_s[changed - 1] + polled_s[changed]) / 2, values[changed])
    return Updates(stamps_s[changed], values[changed])


def find_period_s(updates: Updates) -> float | None:
    """Return how often a sensor changes; None from too few changes.

    A reading that came out equal twice leaves a gap of two periods; such gaps are passed over.
    """
    if len(updates) < MIN_UPDATES:
        return None
    gaps_s = np.diff(updates.time_s)
    usual_s = float(np.percentile(gaps_s, 20))
    return float(gaps_s[(gaps_s > 0.5 * usual_s) & (gaps_s < 1.5 * usual_s)].mean())


def jumps(updates: Updates) -> bool:
    """Return whether a sensor's readings jump by half their range from one update to the next, as the load steps.

    A mean over several periods cannot: each update renews only a part of it.
    """
    return updates.shows_step and 2 * float(np.abs(np.diff(updates.value)).max()) >= float(np.ptp(updates.value))


def cumulate(samples: Updates) -> Updates:
    """Return the integral of power samples by the trapezoid rule: stamps in s, values in J."""
    energy_j = np.concatenate(
        ([0.0], np.cumsum(np.diff(samples.time_s) * (samples.value[1:] + samples.value[:-1]) / 2))
    )
    return Updates(samples.time_s, energy_j)


def find_window_s(updates: Updates, energy: Updates) -> tuple[float, bool] | None:
    """Return over what a power sensor averages, by a second one that resolves it.

    Args:
        updates: the sensor's readings.
        energy: cumulative energy by the other sensor, whose periods are the shortest windows that can be told.
    Returns: the window in s, and whether that is only an upper bound: the shortest that could be told; None where
        neither varies, or none fits.
    """
    resolution_s = float(np.median(np.diff(energy.time_s))) if len(energy) >= MIN_UPDATES else 0.0
    if not updates.varies or resolution_s <= 0:
        return None
    windows_s = [window_s for window_s in CANDIDATE_WINDOWS_S if window_s >= 0.9 * resolution_s]
    # Every candidate is judged by the same readings, or the longest would be by the fewest.
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
    """Return whether an energy counter does no more than add up the readings of a power sensor.

    Args:
        counter: the counter's ticks, values in J.
        power: the sensor's readings, as often as the counter ticks.
    Returns: None where no step of load was seen, or the two do not keep step.
    """
    period_s = find_period_s(counter)
    if not power.shows_step or period_s is None:
        return None
    # By the period and not by the ticks' own distances, which are known to some percent only.
    means_w = np.diff(counter.value) / period_s
    errors = []
    for shift in (-0.75, 0.25, 1.25):  # which of the two the driver renews first is not known, nor how much later
        shown = np.searchsorted(power.time_s, counter.time_s[1:] + shift * period_s) - 1
        inside = shown >= 0
        if np.count_nonzero(inside) >= MIN_UPDATES:
            errors.append(float(np.abs(means_w[inside] - power.value[shown[inside]]).max()))
    return min(errors) <= 0.1 * float(np.ptp(power.value)) if errors else None


def _energy_at(energy: Updates, times_s: np.ndarray) -> np.ndarray:
    energy_j: np.ndarray = np.interp(times_s, energy.time_s, energy.value)
    return energy_j
