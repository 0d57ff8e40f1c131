"""The actors of a run, one aggregator and a worker for each GPU group: how they are started and called."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.execution.aggregator.aggregator import Aggregator
from runner.execution.driver.cluster import ClusterError, forwarded_variables
from runner.execution.driver.ray_compat import describe_death
from runner.execution.worker.worker import GpuWorker, WorkerConfig
from runner.results.live import Event, EventLevel, SweepView


def start_aggregator(directory: Path, view: SweepView) -> Any:
    """Start the aggregator on this node, which has the run directory. Returns: an actor handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Aggregator).remote(directory.resolve(), view)


def start_worker(config: WorkerConfig, aggregator: Any) -> Any:
    """Start the worker of a GPU group on the group's node. Returns: an actor handle."""
    actor = ray.remote(
        # Two threads: while a block runs in one, `stop` runs in the other.
        num_cpus=0,
        max_concurrency=2,
        runtime_env={"env_vars": forwarded_variables()},
    )(GpuWorker)
    if config.group.node_id is not None:
        actor = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(config.group.node_id, soft=False))
    return actor.remote(config, aggregator)


def await_answer(reference: Any, timeout_s: float | None = None, *, whose: str = "the aggregator") -> Any:
    """Return an actor's answer, or raise the error that the actor raised.

    Args:
        whose: names the actor in the message about its death.
    Raises: ClusterError: the actor's process died. GetTimeoutError: there was no answer in time.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise ClusterError(f"{whose} is gone: {describe_death(error)}; the same command resumes the run") from None


def tell(aggregator: Any, level: EventLevel, kind: str, message: str) -> None:
    """Report an event of the run to the aggregator. It does nothing if the aggregator has died."""
    with suppress(RayError):
        aggregator.report_event.remote(Event(time_ns=time.time_ns(), level=level, kind=kind, message=message))
