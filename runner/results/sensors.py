"""What a probe found of a GPU's power and energy sensors. The analysis of energy rests on it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PowerSource = Literal["samples", "instant", "average"]
"""The NVIDIA driver's sample buffer, its instantaneous field, nvmlDeviceGetPowerUsage."""
EnergySource = Literal["trace", "counter"]
"""The integral of a power source, the GPU's energy counter."""
SensorName = Literal["samples", "instant", "average", "counter"]

ASSUMED_PERIOD_S: Mapping[SensorName, float] = {"samples": 0.02, "instant": 0.1, "average": 0.1, "counter": 0.1}
"""Update periods that have been published for most GPUs, for where a probe saw no reading change."""
ASSUMED_AVERAGE_S = 1.0
"""The longest averaging window of nvmlDeviceGetPowerUsage that is known, for where a probe could not find it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorFinding:
    """What was found of one sensor. Where a value is None, `reason` says why."""

    supported: bool
    update_period_s: float | None = None
    averaging_window_s: float | None = None
    """The time before its stamp that a reading averages over; 0 for a point in time. For a counter, the part of each
    period that it adds up: the whole period if it misses nothing."""
    averaging_window_max_s: float | None = None
    """An upper bound, where the window itself could not be found."""
    buffer_length: int | None = None
    """Readings that the NVIDIA driver keeps; None for a sensor that shows only its newest reading."""
    call_us: float | None = None
    """Median time of one call; None in virtual time, where calls cost nothing."""
    reason: str | None = None
    """What could not be found, and why."""

    def describe(self) -> str:
        """Return the finding in words."""
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
    """What the power trace holds; None where the GPU reports no power."""
    energy_source: EnergySource | None
    """What `energy_j` comes from if a trial has both; None where the GPU has neither."""
    choice: str
    """Why these sources were chosen."""

    def period_s(self, sensor: SensorName) -> float:
        """Return a sensor's update period in s, as found or else as assumed."""
        return self.sensors[sensor].update_period_s or ASSUMED_PERIOD_S[sensor]

    def averaging_window_s(self, sensor: SensorName) -> float:
        """Return the time that one reading averages over, in s: as found, else the least favourable plausible value.

        That is 0, for a point in time that misses everything between two readings. For `average` it is one second,
        unless the probe found a smaller bound.
        """
        finding = self.sensors[sensor]
        if finding.averaging_window_s is not None:
            return finding.averaging_window_s
        return ASSUMED_AVERAGE_S if sensor == "average" and finding.averaging_window_max_s is None else 0.0

    def reach_s(self, sensor: SensorName) -> float:
        """Return how long before its stamp a reading may begin, in s: its averaging window, at least one period."""
        return max(self.period_s(sensor), self.averaging_window_s(sensor))

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return asdict(self) | {"sensors": {name: asdict(finding) for name, finding in self.sensors.items()}}
