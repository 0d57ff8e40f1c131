"""Ray, on this machine alone or on a cluster, and the GPU groups there.

A `--gpu` value and an address enter, one `GpuGroup` for each GPU leaves. Next: `run.py` starts a worker on each.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from runner.execution.driver.ray_compat import (
    ADDRESS_VARIABLE,
    OWN_RAY_ENVIRONMENT,
    QUIET_ENVIRONMENT,
    RAY_LOGS,
    import_ray,
    init_ray,
    list_live_node_ids,
)
from runner.execution.gpu_group import GpuGroup
from runner.hardware.access.permission import PERMISSION_VARIABLE, find_obstacle
from runner.hardware.access.read_only import CLOCKS_VARIABLE
from runner.hardware.access.sudo import SETTER_VARIABLE
from runner.hardware.factory import is_simulated
from runner.hardware.gpu import GpuInfo, NoGpuError
from runner.hardware.selection import find_gpus, require_readable
from runner.timebase import WallTime

_OBJECT_STORE_BYTES = 128 * 1024 * 1024
_CONNECT_LIMIT_S = 10.0
_FORWARDED_VARIABLES = (CLOCKS_VARIABLE, PERMISSION_VARIABLE, SETTER_VARIABLE)
"""The variables that decide whether and how a GPU may be set."""
_NUM_CPUS = 1
"""Ray starts one idle process for each CPU that it is told of. The actors of a run ask for no CPU."""

_LOG = logging.getLogger(__name__)


class ClusterError(Exception):
    """Ray does not start or does not answer, or a process that a run cannot do without has died."""


def cluster_address(address: str | None) -> str | None:
    """Return the address of the cluster that a run joins: `address`, else RAY_ADDRESS; None for this machine alone."""
    return address or os.environ.get(ADDRESS_VARIABLE) or None


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Join the cluster at `address` (or RAY_ADDRESS), or start Ray on this machine alone; leave it at the end.

    The Ray that is started here listens on the loopback interface only, has no dashboard and reports no usage. Ray
    reads some of these settings on import, so no module may import Ray before.

    Raises: ClusterError: no cluster answers at the address, or Ray does not start here.
    """
    address = cluster_address(address)
    os.environ |= QUIET_ENVIRONMENT if address else QUIET_ENVIRONMENT | OWN_RAY_ENVIRONMENT
    import_ray()
    import ray

    try:
        if address:
            _join_ray(address)
        else:
            _start_ray()
        yield
    finally:
        ray.shutdown()


def _join_ray(address: str) -> None:
    """Raises: ClusterError: no cluster answers there."""
    host, _, port = address.rpartition(":")
    try:
        if host and "/" not in host and port.isdecimal():
            # Ray itself would wait for minutes where no process listens at HOST:PORT.
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_LIMIT_S).close()
        init_ray(address=address)
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error


def _start_ray() -> None:
    """Start Ray here, in two tries: on a busy machine its node may exceed Ray's own limit of 30 s.

    Raises: ClusterError: the second try failed too.
    """
    import ray

    before = set(psutil.Process().children(recursive=True))
    for is_last in (False, True):
        try:
            init_ray(
                address="local",  # and not a Ray that `ray start` has left running here
                num_cpus=_NUM_CPUS,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
            return
        except BaseException as error:  # Ray raises Exception itself; any other comes from a signal
            started = set(psutil.Process().children(recursive=True)) - before
            ray.shutdown()
            # Ray's helper processes would wait for a minute for a server that is gone.
            for process in started | set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if not isinstance(error, Exception):
                raise
            if is_last:
                raise ClusterError(f"Ray does not start here: {error}; its logs: {RAY_LOGS}") from error
            _LOG.warning("Ray did not start (%s); trying once more", error)


def choose_gpus(gpu: str) -> tuple[str, list[GpuInfo]]:
    """Return the request that `open_gpu` takes, and the GPUs of this machine that a `--gpu` value selects.

    "auto" means every GPU, or one simulated GPU where there is none.

    Raises: NoGpuError: this machine has no GPU, or not that one. ValueError: `gpu` is not a request.
    """
    if gpu != "auto" and not is_simulated(gpu):
        require_readable(gpu)
    return find_gpus(gpu, os.environ.get("CUDA_VISIBLE_DEVICES"), WallTime())


def find_gpu_groups(gpu: str, address: str | None) -> list[GpuGroup]:
    """Return a GPU group for each GPU: this machine's, or with an address those of every node.

    With an address, Ray must have been initialised.

    Raises: NoGpuError: there is no GPU. ValueError: `gpu` is not a request.
    """
    return _find_in_cluster(gpu) if cluster_address(address) else _find_here(gpu)


def _find_here(gpu: str) -> list[GpuGroup]:
    request, infos = choose_gpus(gpu)
    host, obstacle = socket.gethostname(), find_obstacle(infos)
    return [
        GpuGroup(gpu_request=request, info=info, label=str(info.index), host=host, obstacle=obstacle) for info in infos
    ]


def _find_in_cluster(gpu: str) -> list[GpuGroup]:
    """Raises: NoGpuError: no node has a GPU. ValueError: `gpu` is not a request."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node_ids = list_live_node_ids()
    look = ray.remote(num_cpus=0, runtime_env={"env_vars": forwarded_variables()})(_look_for_gpus)
    found = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(gpu)
        for node_id in node_ids
    ]
    groups: list[GpuGroup] = []
    for number, (node_id, answer) in enumerate(zip(node_ids, ray.get(found), strict=True)):
        host, request, infos, obstacle = answer
        groups += [
            GpuGroup(
                gpu_request=request,
                info=info,
                label=f"n{number}:{info.index}",
                host=host,
                node_id=node_id,
                obstacle=obstacle,
            )
            for info in infos
        ]
    real = [group for group in groups if not group.info.simulated]
    if gpu == "auto" and real:
        return real
    if not groups:
        raise NoGpuError(
            f"none of the cluster's {len(node_ids)} nodes has a GPU that may be used; see `sweep doctor` there"
        )
    return groups


def forwarded_variables() -> dict[str, str]:
    """Return the environment variables that every node must receive. No other variable is forwarded."""
    return {name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ}


def _look_for_gpus(gpu: str) -> tuple[str, str, list[GpuInfo], str | None]:
    """Runs on a node. Returns its host name, the request, its GPUs (it may have none), and why they cannot be set."""
    # Ray may hide the GPUs from a task that asks for none. The node's own CUDA_VISIBLE_DEVICES decides.
    try:
        request, infos = choose_gpus(gpu)
    except NoGpuError:
        request, infos = "nvidia", []
    return socket.gethostname(), request, infos, find_obstacle(infos)
