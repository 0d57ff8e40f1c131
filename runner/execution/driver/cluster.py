"""Ray: one quiet machine of its own, or the cluster that is there; and the GPU groups on it, one for each GPU.

A `--gpu` request and an address enter, `GpuGroup`s leave. The driver puts one worker on each.
"""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from runner.hardware.access.permission import find_obstacle
from runner.hardware.access.read_only import CLOCKS_VARIABLE
from runner.hardware.access.sudo import SETTER_VARIABLE
from runner.hardware.gpu import GpuInfo, NoGpuError
from runner.hardware.nvml.gpu import is_simulated, open_nvml
from runner.hardware.selection import require_readable, select_gpus
from runner.hardware.simulated.module import PERMISSION_VARIABLE
from runner.timebase import WallTime

_OBJECT_STORE_BYTES = 128 * 1024 * 1024
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its own handler in C++ would abort this process 3 s after SIGTERM, and leave none in place while Ray is shut down.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # For a worker that dies Ray prints half a page, the run itself a line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
}
_LOOPBACK_ENVIRONMENT = {
    # Ray listens on the loopback interface alone where it takes a machine for a desktop. It reads this when imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its workers would run at niceness 15: whatever else this machine does came before an engine that is measured.
    "RAY_worker_niceness": "0",
    # Its helper processes import a lot; on two busy cores the usual 15 s do not always suffice.
    "RAY_agent_register_timeout_ms": "120000",
    # After a SIGKILL of the driver they would wait 60 s for a control store (GCS) that never comes back.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
RAY_LOGS = "/tmp/ray/session_latest/logs"
"""On the machine of the process that wrote them."""
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
_KNOCK_S = 10.0
_PASSED_ON = (CLOCKS_VARIABLE, PERMISSION_VARIABLE, SETTER_VARIABLE)
"""What decides whether and how a GPU may be set."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run early."""
_NUM_CPUS = 1
"""What Ray is told: it starts that many idle processes ahead, and the actors here ask for none."""


_LOG = logging.getLogger(__name__)


class ClusterError(Exception):
    """Ray does not start or does not answer, or a process that a run cannot do without has died."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuGroup:
    """Where a worker sits: which GPU, on which node, and how it is reached."""

    gpu_request: str
    """What `open_nvml` takes: "nvidia", or the name of the simulated GPUs, e.g. "sim:h200x2"."""
    info: GpuInfo
    label: str
    """Short and unique, for the screen: "0", or "node2:0" on a cluster."""
    host: str
    node_id: str | None = None
    """Ray's node; None on a machine of our own."""
    obstacle: str | None = None
    """Why clocks cannot be set from there, as far as it can be known without trying."""


def choose_gpus(gpu: str) -> tuple[str, list[GpuInfo]]:
    """Return what `open_nvml` takes, and this machine's GPUs that a `--gpu` value means.

    "auto" means every GPU, or one simulated GPU where there is none.

    Raises: NoGpuError: there is none, or not that one; ValueError: not a request.
    """
    if is_simulated(gpu):
        return gpu, select_gpus(open_nvml(gpu, WallTime()), "all", None)
    if gpu != "auto":
        require_readable(gpu)
    try:
        nvml = open_nvml("nvidia", WallTime())
        return "nvidia", select_gpus(nvml, "all" if gpu == "auto" else gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except NoGpuError:
        if gpu != "auto":
            raise
        return choose_gpus("sim")


def cluster_address(address: str | None) -> str | None:
    """Return where the cluster is that a run joins: as asked for, else RAY_ADDRESS; None for this machine alone."""
    return address or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Join the cluster at `address` (or RAY_ADDRESS), or start Ray on this machine alone; leave it at the end.

    Its own Ray listens on the loopback interface only, has no dashboard and reports no usage. Ray reads part of that
    when it is imported, so nothing may import it before.

    Raises: ClusterError: no cluster answers at the address, or Ray does not start here.
    """
    address = cluster_address(address)
    os.environ |= _RAY_ENVIRONMENT if address else _RAY_ENVIRONMENT | _LOOPBACK_ENVIRONMENT
    import ray

    try:
        if address:
            _join_ray(address)
        else:
            _start_ray()
        yield
    finally:
        ray.shutdown()


def _init_ray(**options: Any) -> None:
    """Call `ray.init` and hold a signal back until it is done; the second one counts at once.

    An exception in the midst of it may leave threads of Ray's C++ part behind that nobody ends: the exit of this
    process then destroys what they work on, and hangs or ends by SIGSEGV.

    Raises: whatever the handlers of `_SIGNALS` raise.
    """
    import ray
    from ray.job_config import JobConfig

    class OwnCode(JobConfig):  # type: ignore[misc]  # Ray's is untyped
        def _runtime_env_has_working_dir(self) -> bool:
            # A job with a folder of its own is what Ray leaves the current one out for, at the front of the workers'
            # search path: a `runner.py` there, or another checkout of this program, would be imported in our place.
            return True

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    held_back: list[int] = []

    def let_through() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for held in held_back:
            signal.raise_signal(held)

    def hold_back(number: int, _: Any) -> None:
        held_back.append(number)
        if len(held_back) > 1:
            let_through()

    for number in handlers:
        signal.signal(number, hold_back)
    ray._private.utils.set_sigterm_handler = lambda _: None  # it would put one in our place that exits at once
    try:
        ray.init(job_config=OwnCode(), **options, **_QUIET)
    finally:
        let_through()


def _join_ray(address: str) -> None:
    """Raises: ClusterError: no cluster answers there."""
    host, _, port = address.rpartition(":")
    try:
        if host and "/" not in host and port.isdecimal():
            # Where nobody listens at HOST:PORT, Ray itself would wait for minutes.
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
        _init_ray(address=address)
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error


def _start_ray() -> None:
    """Start Ray here, twice if need be: on a busy machine its node may miss Ray's own limit of 30 s.

    Raises: ClusterError: it did not come up the second time either.
    """
    import ray

    before = set(psutil.Process().children(recursive=True))
    for is_last in (False, True):
        try:
            _init_ray(
                address="local",  # not whatever `ray start` has left running here
                num_cpus=_NUM_CPUS,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
            return
        except BaseException as error:  # Ray raises Exception itself; the others are signals
            started = set(psutil.Process().children(recursive=True)) - before
            ray.shutdown()
            # Left to themselves, Ray's helpers wait for a minute for a server that is gone.
            for process in started | set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if not isinstance(error, Exception):
                raise
            if is_last:
                raise ClusterError(f"Ray does not start here: {error}; its logs: {RAY_LOGS}") from error
            _LOG.warning("Ray did not start (%s); trying once more", error)


def find_gpu_groups(gpu: str, address: str | None) -> list[GpuGroup]:
    """Return a GPU group for each GPU: this machine's, or with an address every node's. Ray must be up for the latter.

    Raises: NoGpuError: there is no GPU; ValueError: not a request.
    """
    if not cluster_address(address):
        request, infos = choose_gpus(gpu)
        host, obstacle = socket.gethostname(), find_obstacle(infos)
        return [
            GpuGroup(gpu_request=request, info=info, label=str(info.index), host=host, obstacle=obstacle)
            for info in infos
        ]
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    look = ray.remote(num_cpus=0, runtime_env={"env_vars": passed_on()})(_look_for_gpus)
    found = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(gpu)
        for node in nodes
    ]
    groups = []
    for number, (node, answer) in enumerate(zip(nodes, ray.get(found), strict=True)):
        host, request, infos, obstacle = answer
        groups += [
            GpuGroup(
                gpu_request=request,
                info=info,
                label=f"n{number}:{info.index}",
                host=host,
                node_id=node["NodeID"],
                obstacle=obstacle,
            )
            for info in infos
        ]
    real = [group for group in groups if not group.info.simulated]
    if gpu == "auto" and real:
        return real
    if not groups:
        raise NoGpuError(
            f"none of the cluster's {len(nodes)} nodes has a GPU that may be used; see `sweep doctor` there"
        )
    return groups


def passed_on() -> dict[str, str]:
    """Return the environment variables that must reach every node; nothing else is passed on."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _look_for_gpus(gpu: str) -> tuple[str, str, list[GpuInfo], str | None]:
    """Runs on a node: its host name, its GPUs, none where it has none, and why they cannot be set."""
    # A task that asks for no GPU may be shown none by Ray; the node's own setting is what counts.
    try:
        request, infos = choose_gpus(gpu)
    except NoGpuError:
        request, infos = "nvidia", []
    return socket.gethostname(), request, infos, find_obstacle(infos)
