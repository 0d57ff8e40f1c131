"""This worker's share of the energy of its host: a `Measurement` enters, columns of `tables.TRIALS` leave."""

from dataclasses import dataclass

from runner.results.measurement import Measurement

MAX_EXCESS = 0.1
"""How much longer than the window the time between the two readings of the host may be, as a fraction of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostShare:
    """The columns of `tables.TRIALS` about the host."""

    host_energy_j: float | None = None
    host_energy_above_idle_j: float | None = None
    host_share_fraction: float | None = None
    host_energy_zones: str | None = None
    host_energy_reason: str | None = None


def share_host_energy(measurement: Measurement) -> HostShare:
    """Return this worker's share of the host's energy over the window.

    The workers of a run on one host share its energy evenly. Above idle is what the host used beyond its power while
    this worker was at rest. Beside other workers it is None, since they were not at rest then.
    """
    host = measurement.meters.host
    if host.energy_j is None or host.elapsed_s is None:
        return HostShare(host_energy_reason=host.reason or "the host's energy was not read")
    length_s = (measurement.end_ns - measurement.start_ns) * 1e-9
    zones = ", ".join(host.zones)
    if not length_s <= host.elapsed_s * (1 + 1e-3) <= length_s * (1 + MAX_EXCESS):
        reason = f"the host was read over {host.elapsed_s:.2f} s, for a window of {length_s:.2f} s"
        return HostShare(host_energy_zones=zones, host_energy_reason=reason)
    whole_j = host.energy_j * length_s / host.elapsed_s
    above_idle_j: float | None = None
    why_not: str | None = None
    if host.num_workers > 1:
        why_not = f"{host.num_workers} workers share this host, so that it was not at rest for any of them alone"
    elif host.idle_power_w is None:
        why_not = "the host's power at rest is not known"
    else:
        above_idle_j = whole_j - host.idle_power_w * length_s
    return HostShare(
        host_energy_j=whole_j / host.num_workers,
        host_energy_above_idle_j=above_idle_j,
        host_share_fraction=1 / host.num_workers,
        host_energy_zones=zones,
        host_energy_reason=why_not,
    )
