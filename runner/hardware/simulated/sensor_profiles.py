"""Habits of drivers' power sensors, as data: how often each reading of a kind of GPU changes and what it averages.

They are habits of sensors only: any of them can be had on any simulated GPU, whose physics stays as it was fitted.
Published: update period and averaging window of the power readings (arXiv 2312.02741). Measured: the H200's (docs/
measurement.md). Everything else here is an assumption, and said to be one.
"""

from dataclasses import dataclass

MS_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Habit:
    """One reading: it changes every `period_ns`, and is the mean of the `window_ns` before; 0 is a point."""

    period_ns: int
    window_ns: int

    def last_update_ns(self, elapsed_ns: int) -> int:
        """Return when the reading last changed, on a clock that began with a change."""
        return elapsed_ns // self.period_ns * self.period_ns

    def seen_ns(self, elapsed_ns: int) -> int:
        """Return how much of the time so far lay in the windows, on the same clock."""
        num_periods, rest_ns = divmod(elapsed_ns, self.period_ns)
        return num_periods * self.window_ns + max(rest_ns - (self.period_ns - self.window_ns), 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorProfile:
    """What a kind of GPU shows of its power; None where its driver answers NVML_ERROR_NOT_SUPPORTED."""

    samples: Habit | None
    """nvmlDeviceGetSamples(NVML_TOTAL_POWER_SAMPLES), the last 120 of them."""
    instant: Habit | None
    """NVML_FI_DEV_POWER_INSTANT."""
    average: Habit | None
    """nvmlDeviceGetPowerUsage and NVML_FI_DEV_POWER_AVERAGE."""
    counter: Habit | None
    """nvmlDeviceGetTotalEnergyConsumption: adds up `window_ns` of each period and takes the rest to be like it."""


def _habit(period_ms: int, window_ms: int) -> Habit:
    return Habit(period_ms * MS_NS, window_ms * MS_NS)


_WHOLE_COUNTER = _habit(100, 100)
"""As measured on an H200, whose counter and sample buffer agree within 0.08 %; assumed elsewhere."""

PROFILES: dict[str, SensorProfile] = {
    # The sample buffer is assumed: nvidia-smi lists one for this generation, at the period of its power reading.
    "volta": SensorProfile(samples=_habit(20, 10), instant=None, average=_habit(20, 10), counter=_WHOLE_COUNTER),
    # Three quarters of the time go unseen. Nobody has published what the counter sees; assumed is the worst, that it
    # adds up the very readings that the driver shows, so that no second source betrays what both have missed.
    "a100": SensorProfile(samples=None, instant=None, average=_habit(100, 25), counter=_habit(100, 25)),
    "rtx3090": SensorProfile(samples=None, instant=None, average=_habit(100, 100), counter=_WHOLE_COUNTER),
    # Nothing is published; assumed to be as Hopper, with an instantaneous field that sees all the time.
    "rtx5090": SensorProfile(samples=None, instant=_habit(100, 100), average=_habit(100, 1000), counter=_WHOLE_COUNTER),
    # Without the sample buffer that its sister H200 has been seen to keep: the harder case.
    "h100": SensorProfile(samples=None, instant=_habit(100, 25), average=_habit(100, 1000), counter=_WHOLE_COUNTER),
    # Bursts' edges lie inside one or two of its samples, and the samples' integral keeps to the counter under steps of
    # 4 to 20 ms, with which point samples would beat: each is taken to be the mean of the period before it.
    "h200": SensorProfile(
        samples=_habit(20, 20), instant=_habit(100, 0), average=_habit(100, 1000), counter=_WHOLE_COUNTER
    ),
    "counter-only": SensorProfile(samples=None, instant=None, average=None, counter=_WHOLE_COUNTER),
    "average-only": SensorProfile(samples=None, instant=None, average=_habit(100, 1000), counter=None),
}


def get_profile(name: str) -> SensorProfile:
    """Return a profile by name. Raises: ValueError: there is none; the message lists those that there are."""
    if name not in PROFILES:
        raise ValueError(f"no sensor profile is called {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
