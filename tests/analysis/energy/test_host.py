"""A worker's share of its host's energy."""

from typing import Any

import pytest

from runner.analysis.energy.host import HostShare, share_host_energy
from runner.results.measurement import HostEnergy, MeterReadings
from tests.analysis.measurements import make_even_measurement

HOST: dict[str, Any] = {
    "energy_j": 1010.0,
    "elapsed_s": 4.04,
    "idle_power_w": 150.0,
    "zones": ("package-0", "dram"),
}
"""250 W over a window of 4 s, read a little outside its edges."""


def share(**changes: Any) -> HostShare:
    return share_host_energy(make_even_measurement(meters=MeterReadings(host=HostEnergy(**HOST | changes))))


def test_one_worker_gets_the_whole_host_over_the_window() -> None:
    assert share() == HostShare(
        host_energy_j=pytest.approx(1000.0),
        host_energy_above_idle_j=pytest.approx(400.0),
        host_share_fraction=1.0,
        host_energy_zones="package-0, dram",
    )


def test_workers_of_one_host_share_it_evenly_and_none_saw_it_at_rest() -> None:
    found = share(num_workers=4)
    assert found.host_energy_j == pytest.approx(250.0)
    assert found.host_share_fraction == 0.25
    assert found.host_energy_above_idle_j is None
    assert str(found.host_energy_reason).startswith("4 workers share this host")


def test_below_idle_is_negative_and_not_zero() -> None:
    assert share(idle_power_w=260.0).host_energy_above_idle_j == pytest.approx(-40.0)


def test_unknown_power_at_rest_leaves_the_energy_itself() -> None:
    found = share(idle_power_w=None)
    assert found.host_energy_j == pytest.approx(1000.0)
    assert found.host_energy_above_idle_j is None
    assert found.host_energy_reason == "the host's power at rest is not known"


@pytest.mark.parametrize("elapsed_s", [3.9, 4.5])
def test_readings_far_from_the_edges_are_not_scaled(elapsed_s: float) -> None:
    """As where the machine's time was set meanwhile."""
    found = share(elapsed_s=elapsed_s)
    assert found.host_energy_j is None
    assert found.host_energy_reason == f"the host was read over {elapsed_s:.2f} s, for a window of 4.00 s"


def test_unread_is_null_with_the_meters_reason() -> None:
    assert share(energy_j=None, reason="no permission") == HostShare(host_energy_reason="no permission")
    assert share_host_energy(make_even_measurement()) == HostShare(host_energy_reason="the host's energy was not read")
