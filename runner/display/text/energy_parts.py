"""What a joule was spent on: what bound a block's operating points, the memory's part, and the host beside the GPU.

Rows of `operating_points.OPERATING_POINTS` enter; sentences leave. A sentence whose numbers are not known is left out.
"""

from collections.abc import Iterator, Sequence

from runner.display.text.names import Row, name_point
from runner.display.text.quantities import format_change_interval, format_number

_UNITS = (("tensor cores", "tensor"), ("memory bandwidth", "dram"), ("SMs", "sm"))


def describe_energy_parts(points: Sequence[Row]) -> Iterator[str]:
    """Say what bound the default clock and the least energy, where memory took how much, and what the host changes.

    Args:
        points: [num_points] rows of one block, one at least.
    """
    shown = _choose_points(points)
    if known := [point for point in shown if point["bound_by"] is not None]:
        yield f"Bound by: {'; '.join(_describe_bound(point) for point in known)}."
    if known := [point for point in shown if point["memory_energy_fraction"] is not None]:
        shares = " and ".join(f"{point['memory_energy_fraction']:.0%} at {name_point(point)}" for point in known)
        yield f"The GPU's memory takes {shares.replace('%', ' %')} of the GPU's energy."
    if sentence := _compare_with_host(points):
        yield sentence


def _choose_points(points: Sequence[Row]) -> list[Row]:
    """Return the default clock and the operating point of least energy, or the one that is both."""
    return [point for point in points if point["is_default"] or point["is_least_energy"]]


def _describe_bound(point: Row) -> str:
    active = ", ".join(
        f"{name} {point[f'{unit}_active_fraction']:.0%}".replace("%", " %")
        for name, unit in _UNITS
        if point[f"{unit}_active_fraction"] is not None
    )
    return f"{point['bound_by']} at {name_point(point)} ({active})"


def _compare_with_host(points: Sequence[Row]) -> str | None:
    """Say where the least energy lies with the host and without it; None where the host is not known everywhere."""
    least = next((point for point in points if point["is_least_energy"]), None)
    with_host = next((point for point in points if point["is_least_energy_with_host"]), None)
    is_known = all(point["joules_per_token_with_host"] is not None for point in points if point["is_sound"])
    if least is None or with_host is None or not is_known:
        return None
    unit = "J/token" if least["token_kind"] == "output" else "J/prompt token"
    share = f"{with_host['host_energy_fraction']:.0%}".replace("%", " %")
    energy = f"{format_number(with_host['joules_per_token_with_host'])} {unit}{_change_of(with_host)}"
    host = f"the host's CPU and memory (another {share} of the GPU's energy there)"
    if len(points) == 1:
        return f"With {host} it is {energy}."
    if with_host is least:
        return f"With {host} the least energy is at {name_point(with_host)} too: {energy}."
    return (
        f"With {host} the least energy is at {name_point(with_host)}: {energy}. "
        f"Without the host it is at {name_point(least)}."
    )


def _change_of(point: Row) -> str:
    name = "joules_per_token_with_host_change"
    if point["is_default"] or point[name] is None:
        return ""
    change = format_change_interval(point[name], point[f"{name}_low"], point[f"{name}_high"])
    return f" ({change.replace('±', '± ')} % against the default clock)"
