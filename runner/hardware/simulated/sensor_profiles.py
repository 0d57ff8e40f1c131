"""The power sensors of kinds of GPUs, as data: how often each reading changes and over what it averages.

A simulated GPU may have the sensors of any profile; its GPU model stays the same. The update periods and averaging
windows of power readings are published (arXiv 2312.02741). Those of the H200 are measured (docs/evidence.md).
Everything else here is an assumption, and its comment says so.
"""

from dataclasses import dataclass

MS_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Habit:
    """One reading: it changes every `period_ns`, and is the mean over the `window_ns` before; 0 means a point."""

    period_ns: int
    window_ns: int

    def last_update_ns(self, elapsed_ns: int) -> int:
        """Return when the reading last changed, in ns since its first change."""
        return elapsed_ns // self.period_ns * self.period_ns

    def seen_ns(self, elapsed_ns: int) -> int:
        """Return how much of the time since the first change lies in averaging windows."""
        num_periods, rest_ns = divmod(elapsed_ns, self.period_ns)
        return num_periods * self.window_ns + max(rest_ns - (self.period_ns - self.window_ns), 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorProfile:
    """The power sensors of a kind of GPU. A sensor whose call returns NVML_ERROR_NOT_SUPPORTED is None."""

    samples: Habit | None
    """nvmlDeviceGetSamples(NVML_TOTAL_POWER_SAMPLES), the last 120 of them."""
    instant: Habit | None
    """NVML_FI_DEV_POWER_INSTANT."""
    average: Habit | None
    """nvmlDeviceGetPowerUsage and NVML_FI_DEV_POWER_AVERAGE."""
    counter: Habit | None
    """nvmlDeviceGetTotalEnergyConsumption. It adds up `window_ns` of each period, and assumes the same for the rest."""
    memory: Habit | None = None
    """NVML_FI_DEV_POWER_AVERAGE at the memory's scope."""
    counts_activity: bool = False
    """Whether the GPU has GPM, the counters of its units."""


def _habit(period_ms: int, window_ms: int) -> Habit:
    return Habit(period_ms * MS_NS, window_ms * MS_NS)


_WHOLE_COUNTER = _habit(100, 100)
"""Measured on an H200, whose counter and sample buffer agree within 0.08 %. An assumption for other GPUs."""

PROFILES: dict[str, SensorProfile] = {
    # The sample buffer is an assumption: nvidia-smi lists one for this generation, with the period of the reading.
    "volta": SensorProfile(samples=_habit(20, 10), instant=None, average=_habit(20, 10), counter=_WHOLE_COUNTER),
    # The readings miss three quarters of the time. What the counter sees is not published. The assumption is the worst
    # case: it adds up the same readings, so no second source shows what both miss.
    "a100": SensorProfile(samples=None, instant=None, average=_habit(100, 25), counter=_habit(100, 25)),
    "rtx3090": SensorProfile(samples=None, instant=None, average=_habit(100, 100), counter=_WHOLE_COUNTER),
    # Nothing is published. The assumption is Hopper, with an instantaneous field that sees the whole time.
    "rtx5090": SensorProfile(samples=None, instant=_habit(100, 100), average=_habit(100, 1000), counter=_WHOLE_COUNTER),
    # The H200 has a sample buffer, and tells its memory from the rest. The assumption here is neither: the harder case.
    "h100": SensorProfile(
        samples=None,
        instant=_habit(100, 25),
        average=_habit(100, 1000),
        counter=_WHOLE_COUNTER,
        counts_activity=True,
    ),
    # The edges of bursts lie within one or two samples. The samples' integral follows the counter under steps of 4 to
    # 20 ms, where the integral of point samples would not. So each sample is the mean over the period before it.
    "h200": SensorProfile(
        samples=_habit(20, 20),
        instant=_habit(100, 0),
        average=_habit(100, 1000),
        counter=_WHOLE_COUNTER,
        memory=_habit(100, 1000),
        counts_activity=True,
    ),
    "counter-only": SensorProfile(samples=None, instant=None, average=None, counter=_WHOLE_COUNTER),
    "average-only": SensorProfile(samples=None, instant=None, average=_habit(100, 1000), counter=None),
}


def get_profile(name: str) -> SensorProfile:
    """Return a profile by name. Raises: ValueError: no profile has this name; the message lists the names."""
    if name not in PROFILES:
        raise ValueError(f"no sensor profile is called {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
