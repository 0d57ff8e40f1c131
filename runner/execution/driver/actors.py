"""The run's actors: one aggregator beside the driver, one worker on each GPU group; started, asked, and told."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.execution.aggregator.aggregator import Aggregator
from runner.execution.driver.cluster import RAY_LOGS, ClusterError, passed_on
from runner.execution.worker.worker import GpuWorker, WorkerConfig
from runner.results.live import Event, EventLevel, SweepView

_PROCESS_ID = re.compile(r"^\s*pid: (\d+)$", re.MULTILINE)


def start_aggregator(directory: Path, view: SweepView) -> Any:
    """Start the aggregator on this node, where the run directory is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Aggregator).remote(directory.resolve(), view)


def start_worker(config: WorkerConfig, aggregator: Any) -> Any:
    """Start the worker of a GPU group, on the GPU group's node."""
    actor = ray.remote(
        # Two threads: a block runs in one, `stop` must get through in the other.
        num_cpus=0,
        max_concurrency=2,
        runtime_env={"env_vars": passed_on()},
    )(GpuWorker)
    if config.group.node_id is not None:
        actor = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(config.group.node_id, soft=False))
    return actor.remote(config, aggregator)


def await_answer(reference: Any, timeout_s: float | None = None, *, whose: str = "the aggregator") -> Any:
    """Wait for an actor's answer; what it raised is raised here as it was.

    Args:
        whose: names the actor, where its process has died.
    Raises: ClusterError: the actor's process died. GetTimeoutError: no answer in time.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise ClusterError(f"{whose} is gone: {describe_death(error)}; the same command goes on from here") from None


def describe_death(error: RayActorError) -> str:
    """Say in a line what became of an actor's process and where its logs are; Ray itself takes half a page for it."""
    text = str(error).strip()
    if error.actor_init_failed:
        return f"its process did not start: {text.splitlines()[-1]}"
    found = _PROCESS_ID.search(text)
    return (
        f"its process {found[1]} died; its logs: {RAY_LOGS}/*{found[1]}.*"
        if found
        else f"it died; its logs: {RAY_LOGS}"
    )


def tell(aggregator: Any, level: EventLevel, kind: str, message: str) -> None:
    """Tell the aggregator an event of the run, whether or not it still listens."""
    with suppress(RayError):
        aggregator.report_event.remote(Event(time_ns=time.time_ns(), level=level, kind=kind, message=message))
