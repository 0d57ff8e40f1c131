"""The GPUs of a run: this machine's, a cluster's, or the one that a server computes on.

The options of `sweep run` and `sweep plan` enter. `ChosenGpus` leaves. Nothing is started or set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.execution.driver.cluster import cluster_address, find_gpu_groups
from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.server import attach
from runner.inference.server.facts import AttachedServer
from runner.spec.sweep import SweepSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenGpus:
    """What a run measures on."""

    groups: Sequence[GpuGroup] | None
    """None: those of the cluster, which are known once it is joined."""
    engine: str
    """"vllm", "simulated" or "server"."""
    server: AttachedServer | None = None
    """The server that the run attaches to; None: the run opens engines of its own."""
    warnings: tuple[str, ...] = ()


def choose_gpus(
    sweep: SweepSpec,
    gpu: str,
    server: str | None,
    server_gpus: str | None,
    *,
    address: str | None = None,
    joins_cluster: bool = True,
    engine: str = "vllm",
    path: Path | None = None,
) -> ChosenGpus:
    """Return the GPUs that the options mean.

    Args:
        joins_cluster: whether a cluster's GPUs are meant where there is an address, or RAY_ADDRESS.
    Raises: the errors of `find_gpu_groups`, and with a server those of `attach`.
    """
    cluster = cluster_address(address) if joins_cluster else None
    if server is not None:
        attached = attach(sweep, server, gpu=gpu, server_gpus=server_gpus, engine=engine, cluster=cluster, path=path)
        return ChosenGpus(groups=attached.groups, engine="server", server=attached.server, warnings=attached.warnings)
    if server_gpus is not None:
        raise ValueError(f"--server-gpus {server_gpus} names the GPU of a server: give its address with --server")
    return ChosenGpus(groups=None if cluster else find_gpu_groups(gpu, None), engine=engine)
