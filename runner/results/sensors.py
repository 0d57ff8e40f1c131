"""What a probe found of a GPU's power and energy sensors; `analysis` rests on it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PowerSource = Literal["samples", "instant", "average"]
"""The driver's sample buffer, its instantaneous field, nvmlDeviceGetPowerUsage."""
EnergySource = Literal["trace", "counter"]
"""The integral of a power source, the GPU's energy counter."""
SensorName = Literal["samples", "instant", "average", "counter"]

ASSUMED_PERIOD_S: Mapping[SensorName, float] = {"samples": 0.02, "instant": 0.1, "average": 0.1, "counter": 0.1}
"""Where a probe saw no update (a reading that did not change): what has been published for most GPUs."""
ASSUMED_AVERAGE_S = 1.0
"""Where a probe could not tell over what nvmlDeviceGetPowerUsage averages: the longest window that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorFinding:
    """What was found of one sensor; None where it could not be told, for the reason in `reason`."""

    supported: bool
    update_period_s: float | None = None
    averaging_window_s: float | None = None
    """The time before its stamp that a reading is the mean of; 0 for a point. Of a counter: the part of each period
    that it adds up, the whole period for one that misses nothing."""
    averaging_window_max_s: float | None = None
    """An upper bound, where the window itself could not be told."""
    buffer_length: int | None = None
    """Readings that the driver keeps; None for a sensor that only shows its newest."""
    call_us: float | None = None
    """Median time of one call; None in virtual time, where calls cost nothing."""
    reason: str | None = None
    """What could not be told, and why."""

    def describe(self) -> str:
        """Return it in words."""
        if not self.supported:
            return f"not there ({self.reason})"
        said = ["unknown period" if self.update_period_s is None else f"every {self.update_period_s * 1e3:.1f} ms"]
        if self.averaging_window_s is not None:
            said.append(f"sees {self.averaging_window_s * 1e3:.0f} ms")
        elif self.averaging_window_max_s is not None:
            said.append(f"sees {self.averaging_window_max_s * 1e3:.0f} ms at most")
        if self.buffer_length is not None:
            said.append(f"{self.buffer_length} buffered")
        if self.call_us is not None:
            said.append(f"{self.call_us:.0f} us a call")
        return ", ".join(said) + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorFindings:
    """A GPU's sensors, and which of them measure it."""

    gpu_uuid: str
    driver_version: str
    sensors: Mapping[SensorName, SensorFinding]
    power_source: PowerSource | None
    """What the power trace holds; None where the GPU shows no power at all."""
    energy_source: EnergySource | None
    """What `energy_j` rests on where both can be had; None where there is neither."""
    choice: str
    """Why these."""

    def period_s(self, sensor: SensorName) -> float:
        """Return a sensor's update period, as found or else as assumed."""
        return self.sensors[sensor].update_period_s or ASSUMED_PERIOD_S[sensor]

    def averaging_window_s(self, sensor: SensorName) -> float:
        """Return the time that one reading is the mean of: as found, else the least favourable that is plausible.

        That is a point, which misses everything between two readings; but a second for a driver's average that has
        not been seen to be shorter.
        """
        finding = self.sensors[sensor]
        if finding.averaging_window_s is not None:
            return finding.averaging_window_s
        return ASSUMED_AVERAGE_S if sensor == "average" and finding.averaging_window_max_s is None else 0.0

    def reach_s(self, sensor: SensorName) -> float:
        """Return how long before its stamp a reading may begin: its averaging window, at least a period."""
        return max(self.period_s(sensor), self.averaging_window_s(sensor))

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return asdict(self) | {"sensors": {name: asdict(finding) for name, finding in self.sensors.items()}}
