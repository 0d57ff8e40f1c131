"""The workers of a run, one for each GPU group: they get blocks, and are started again when their process dies.

Blocks come from the queue. A block that a worker did not finish goes back to it. Next: the worker itself.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from runner.execution.driver.actors import await_answer, start_worker, tell
from runner.execution.driver.dispatch import Assignment, Queue
from runner.execution.driver.ray_compat import describe_death
from runner.execution.gpu_group import GpuDescription
from runner.execution.worker.trial_identity import identify_without_point
from runner.execution.worker.worker import WorkerConfig
from runner.results.measurement import Placement
from runner.results.run_directory import RunStore
from runner.results.sensors import SensorFindings
from runner.spec.trial import Trial
from runner.tasks.loading import describe_task

MAX_RESTARTS = 3
STOP_LIMIT_S = 20.0
CLOSE_LIMIT_S = 40.0
WRITE_LIMIT_S = 30.0


@dataclass(kw_only=True)
class _Worker:
    config: WorkerConfig
    actor: Any
    task: Any = None
    assignment: Assignment | None = None
    num_restarts: int = 0


class WorkerPool:
    """Starts a worker for each configuration. The workers get ready while the caller goes on.

    Args:
        store: where the aggregator writes. It shows what a worker had finished before it died.
        aggregator: an actor handle.
    """

    def __init__(self, configs: Sequence[WorkerConfig], queue: Queue, store: RunStore, aggregator: Any) -> None:
        self._queue = queue
        self._store = store
        self._aggregator = aggregator
        self._start_ns = time.time_ns()
        self._workers = [_Worker(config=config, actor=start_worker(config, aggregator)) for config in configs]

    def __len__(self) -> int:
        return len(self._workers)

    def describe(self) -> list[GpuDescription]:
        """Return the description of each worker's GPU, once the worker has it.

        Raises: GpuError, LeaseHeldError, ValueError: a GPU is not available. ClusterError: a worker's process died.
        """
        return [
            await_answer(
                worker.actor.describe.remote(),
                whose=f"the worker of GPU {worker.config.group.label} on {worker.config.group.host}",
            )
            for worker in self._workers
        ]

    def assign(self) -> bool:
        """Give every idle worker its next block. Returns: whether any worker has a block."""
        for worker in self._workers:
            if worker.task is None and (assignment := self._queue.take(worker.config.group.info.uuid)):
                worker.assignment = assignment
                worker.task = worker.actor.run_block.remote(assignment.block, assignment.trial_ids)
        return any(worker.task is not None for worker in self._workers)

    def collect(self, timeout_s: float) -> None:
        """Wait until a worker has finished its block or died, at most `timeout_s`."""
        busy = [worker for worker in self._workers if worker.task is not None]
        done, _ = ray.wait([worker.task for worker in busy], timeout=timeout_s)
        for worker in busy:
            if worker.task in done:
                self._take_back(worker)

    def close(self) -> list[SensorFindings]:
        """Stop the trials, restore every GPU and end every engine. A worker that does not answer in time is killed.

        A Ctrl-C ends the wait. The guard of each lease restores the GPU and ends the engine even then.

        Returns: what the workers that answered have learnt about their GPUs' sensors.
        """
        sensors: list[SensorFindings] = []
        with suppress(KeyboardInterrupt):
            busy = [worker for worker in self._workers if worker.task is not None]
            for worker in busy:
                worker.actor.stop.remote()
            if busy:
                ray.wait([worker.task for worker in busy], num_returns=len(busy), timeout=STOP_LIMIT_S)
            closing = [worker.actor.close.remote() for worker in self._workers]
            for closed in closing:
                with suppress(RayError):
                    found = ray.get(closed, timeout=CLOSE_LIMIT_S)
                    sensors += [found] if found else []
        for worker in self._workers:
            with suppress(RayError):
                ray.kill(worker.actor)
        return sensors

    def _take_back(self, worker: _Worker) -> None:
        assignment, task = worker.assignment, worker.task
        worker.assignment = worker.task = None
        assert assignment is not None
        try:
            if ray.get(task):
                return
            reason, can_restart = "the run was interrupted", False
        except RayTaskError as error:  # before RayActorError, since its cause may be the death of another actor
            reason, can_restart = str(error.cause), False
        except RayActorError as error:
            reason, can_restart = f"{describe_death(error)} on {worker.config.group.host}", True
        except RayError as error:
            reason, can_restart = str(error).partition("\n")[0], True
        left = self._give_back(worker, assignment, reason)
        worker.num_restarts += 1
        with suppress(RayError):
            ray.kill(worker.actor)
        group = worker.config.group
        if can_restart and worker.num_restarts <= MAX_RESTARTS:
            message = f"GPU {group.label}: the worker is started again: {reason}"
            tell(self._aggregator, "warning", "worker_restarted", message)
            worker.actor = start_worker(worker.config, self._aggregator)
            return
        self._queue.lose_gpu(group.info.uuid)
        self._aggregator.update_gpu.remote(group.info.uuid, phase="lost")
        tell(self._aggregator, "error", "gpu_lost", f"GPU {group.label} is no longer used: {reason}")
        self._workers.remove(worker)
        if left and not self._workers:  # otherwise another GPU measures it
            self._fail(worker, left[0], f"the last GPU was lost while it ran: {reason}")

    def _give_back(self, worker: _Worker, assignment: Assignment, reason: str) -> list[Trial]:
        """Return a block to the queue. A trial during which too many workers died becomes a failed row.

        Returns: the trials that are still to be run. The first of them was in progress.
        """
        with suppress(GetTimeoutError):  # the aggregator first writes what the worker had handed over
            await_answer(self._aggregator.snapshot.remote(), timeout_s=WRITE_LIMIT_S)
        trials = assignment.block.trials
        rows = self._store.read_trials([trial.trial_id for trial in trials])
        # Trials that failed in an earlier run are still to be run.
        is_finished = (pl.col("status") == "ok") | (pl.col("start_ns") >= self._start_ns)
        finished = set(rows.filter(is_finished)["trial_id"])
        suspect = self._queue.give_back(assignment, finished)
        if suspect is not None:
            trial = next(trial for trial in trials if trial.trial_id == suspect)
            self._fail(worker, trial, f"two workers died while it ran: {reason}")
        left = assignment.trial_ids - finished - {suspect}
        return [trial for trial in trials if trial.trial_id in left]

    def _fail(self, worker: _Worker, trial: Trial, error: str) -> None:
        """Let the aggregator write the row of a trial whose worker died."""
        group = worker.config.group
        identity = identify_without_point(trial, describe_task(trial.task.name).request_kind)
        placement = Placement(
            gpu_uuids=(group.info.uuid,),
            gpu_name=group.info.name,
            host=group.host,
            fingerprint="",
            simulated=group.info.simulated,
        )
        await_answer(self._aggregator.fail_trial.remote(identity, placement, error, time.time_ns()))
