"""A GPU's power, read from the sensor that a probe chose. Each reading is returned once."""

from runner.hardware.gpu import Gpu, PowerReading
from runner.results.sensors import PowerSource, SensorFindings

POLL_S = 0.05
"""Period of polls of a reading without a buffer. It usually changes every 100 ms; a poll shows when to within 25 ms."""


class PowerReader:
    """Reads a GPU's power from the source that `sensors` names; by default from the sample buffer."""

    def __init__(self, gpu: Gpu, sensors: SensorFindings | None) -> None:
        self._gpu = gpu
        self.source: PowerSource | None = sensors.power_source if sensors else "samples"
        """None where the GPU has no power reading, or has lost it."""
        self.period_ns: float | None = None
        """How often polled readings change, where a probe has found it."""
        self.reach_ns = round(sensors.reach_s(self.source) * 1e9) if sensors and self.source else 0
        """How long before its stamp the interval of a reading may begin."""
        self._polled: _PolledPower | None = None
        if sensors and self.source in ("instant", "average"):
            self.period_ns = round(sensors.period_s(self.source) * 1e9)
            self._polled = _PolledPower(self.period_ns, round(POLL_S * 1e9), has_stamps=self.source == "instant")

    @property
    def is_polled(self) -> bool:
        """Whether `read` must be called every `POLL_S`, because the driver keeps only the newest reading."""
        return self._polled is not None

    def read(self, after_ns: int) -> list[PowerReading]:
        """Return the new readings with stamps later than `after_ns`, oldest first.

        Raises: GpuError.
        """
        if self.source == "samples":
            return self._gpu.read_power_samples(after_ns)
        if self._polled is None or self.source is None:  # no other source replaces one that was lost
            return []
        is_instant = self.source == "instant"
        reading = self._polled.take(self._gpu.read_instant_power() if is_instant else self._gpu.read_average_power())
        return [reading] if reading is not None and reading.time_ns > after_ns else []


class _PolledPower:
    """Finds the readings among polls: a sensor changes once in a period, however often it is asked.

    A reading is new when its value has changed, or when a period has passed. Readings of an unchanged value are kept,
    since a trace of the changes alone has another integral.

    Args:
        period_ns: the sensor's update period.
        poll_ns: time between polls.
        has_stamps: whether the readings carry the driver's stamps; else they are stamped when they were polled.
    """

    def __init__(self, period_ns: int, poll_ns: int, *, has_stamps: bool) -> None:
        self._period_ns = period_ns
        self._poll_ns = poll_ns
        self._has_stamps = has_stamps
        self._newest: PowerReading | None = None
        self._polled_ns = 0

    def take(self, polled: PowerReading) -> PowerReading | None:
        """Return the reading of a poll; None where it has been returned before."""
        before_ns, self._polled_ns = self._polled_ns, polled.time_ns
        newest = self._newest
        if newest is None:
            self._newest = polled
        elif self._has_stamps:
            # The stamp may be that of the call. Then it is no sign of a new reading before a period has passed.
            due_ns = newest.time_ns + self._period_ns - self._poll_ns
            if polled.power_w != newest.power_w or polled.time_ns >= due_ns:
                self._newest = polled
        elif polled.power_w != newest.power_w:
            # It changed between two polls.
            self._newest = PowerReading(time_ns=(before_ns + polled.time_ns) // 2, power_w=polled.power_w)
        elif polled.time_ns >= newest.time_ns + self._period_ns + self._poll_ns:
            self._newest = PowerReading(time_ns=newest.time_ns + self._period_ns, power_w=polled.power_w)
        return None if self._newest is newest else self._newest
