"""A GPU's power, read from whichever of its sensors a probe has chosen; each reading once."""

from runner.hardware.gpu import Gpu, PowerReading
from runner.results.sensors import PowerSource, SensorFindings

POLL_S = 0.05
"""Of a reading that no buffer keeps: it changes every 100 ms as a rule, and when it did is then known to 25 ms."""


class PowerReader:
    """Reads a GPU's power from the source that `sensors` names, the sample buffer without them."""

    def __init__(self, gpu: Gpu, sensors: SensorFindings | None) -> None:
        self._gpu = gpu
        self.source: PowerSource | None = sensors.power_source if sensors else "samples"
        """None where the GPU has none, or was found to have lost it."""
        self.period_ns: float | None = None
        """How often polled readings change, where a probe has told."""
        self.reach_ns = round(sensors.reach_s(self.source) * 1e9) if sensors and self.source else 0
        """How long before its stamp a reading may begin."""
        self._polled: _PolledPower | None = None
        if sensors and self.source in ("instant", "average"):
            self.period_ns = round(sensors.period_s(self.source) * 1e9)
            self._polled = _PolledPower(self.period_ns, round(POLL_S * 1e9), has_stamps=self.source == "instant")

    @property
    def is_polled(self) -> bool:
        """Whether `read` must be called every `POLL_S`: the driver keeps no readings but the newest."""
        return self._polled is not None

    def read(self, after_ns: int) -> list[PowerReading]:
        """Return the readings with stamps later than `after_ns` that have not been returned, oldest first.

        Raises: GpuError.
        """
        if self.source == "samples":
            return self._gpu.read_power_samples(after_ns)
        if self._polled is None or self.source is None:  # of a source that was lost no other takes the place
            return []
        is_instant = self.source == "instant"
        reading = self._polled.take(self._gpu.read_instant_power() if is_instant else self._gpu.read_average_power())
        return [reading] if reading is not None and reading.time_ns > after_ns else []


class _PolledPower:
    """Readings out of polls: a sensor changes once a period, however often it is asked.

    A reading is new when its value has changed, or when a period has passed: a sensor that goes on showing the same
    value goes on being read, since a trace of the changes alone has another integral.

    Args:
        period_ns: the sensor's update period.
        poll_ns: time between polls.
        has_stamps: whether its readings carry the driver's stamps; else they are stamped when they were polled.
    """

    def __init__(self, period_ns: int, poll_ns: int, *, has_stamps: bool) -> None:
        self._period_ns = period_ns
        self._poll_ns = poll_ns
        self._has_stamps = has_stamps
        self._newest: PowerReading | None = None
        self._polled_ns = 0

    def take(self, polled: PowerReading) -> PowerReading | None:
        """Return what a poll brought, None where it is a reading that has been taken before."""
        before_ns, self._polled_ns = self._polled_ns, polled.time_ns
        newest = self._newest
        if newest is None:
            self._newest = polled
        elif self._has_stamps:
            # A stamp may be that of the call instead of the reading: then it alone says nothing before a period is up.
            due_ns = newest.time_ns + self._period_ns - self._poll_ns
            if polled.power_w != newest.power_w or polled.time_ns >= due_ns:
                self._newest = polled
        elif polled.power_w != newest.power_w:
            # It changed somewhere between two polls.
            self._newest = PowerReading(time_ns=(before_ns + polled.time_ns) // 2, power_w=polled.power_w)
        elif polled.time_ns >= newest.time_ns + self._period_ns + self._poll_ns:
            self._newest = PowerReading(time_ns=newest.time_ns + self._period_ns, power_w=polled.power_w)
        return None if self._newest is newest else self._newest
