"""What the driver and a worker tell each other about a GPU: where it is, and what it turned out to be.

The driver makes a `GpuGroup` for each GPU. A worker holds it and answers with a `GpuDescription`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.hardware.gpu import GpuInfo
from runner.results.measurement import Placement
from runner.results.sensors import SensorFindings


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuGroup:
    """The GPUs that one worker drives, today always one: which it is, on which host, and how it is opened."""

    gpu_request: str
    """The request that `open_gpu` takes: "nvidia", or the name of the simulated GPUs, e.g. "sim:h200x2"."""
    info: GpuInfo
    label: str
    """Short and unique, for the screen: "0", or "n1:0" for GPU 0 of the second node of a cluster."""
    host: str
    node_id: str | None = None
    """Ray's node; None where the run uses this machine alone."""
    obstacle: str | None = None
    """Why clocks cannot be set on that host, as far as this is known without trying."""


def count_on_host(groups: Sequence[GpuGroup], group: GpuGroup) -> int:
    """Return how many of the groups, each with a worker, are on the host of one of them."""
    return sum((other.host, other.node_id) == (group.host, group.node_id) for other in groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuDescription:
    """What a worker says about its GPU."""

    info: GpuInfo
    placement: Placement
    versions: dict[str, str]
    """The versions of the packages on the worker's host, by package."""
    sensors: SensorFindings
