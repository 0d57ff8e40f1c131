"""The driver: it deals out blocks to workers until every trial has its row, even when processes die.

A sweep and its GPU groups enter. A filled run directory and a `RunOutcome` leave. `cluster.py` has started Ray before.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
import ray
from ray.exceptions import GetTimeoutError, RayError

from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.run.operating_points import POINT
from runner.execution.driver.actors import await_answer, start_aggregator, tell
from runner.execution.driver.cluster import ClusterError
from runner.execution.driver.dispatch import Queue
from runner.execution.driver.eta import RemainingTime
from runner.execution.driver.leftovers import list_not_restored
from runner.execution.driver.manifest import RunOptions, build_manifest, close_manifest
from runner.execution.driver.prefetch import Prefetch, list_ahead
from runner.execution.driver.worker_pool import WorkerPool
from runner.execution.gpu_group import GpuGroup, count_on_host
from runner.execution.worker.worker import WorkerConfig
from runner.results.live import SweepView
from runner.results.outcome import RunOutcome
from runner.results.run_directory import RunStore
from runner.results.sensors import SensorFindings
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block

POLL_S = 0.25
SNAPSHOT_LIMIT_S = 10.0


@dataclass(kw_only=True)
class _Run:
    """The driver's state. One thread uses it."""

    aggregator: Any
    queue: Queue
    workers: WorkerPool
    num_before: int
    planned: frozenset[str]
    """The ids of the trials that this run is to measure."""
    show: Callable[[SweepView], None]
    prefetch: Prefetch
    remaining: RemainingTime = field(default_factory=RemainingTime)
    start_s: float = field(default_factory=time.monotonic)


def run_sweep(
    sweep: SweepSpec,
    blocks: Sequence[Block],
    groups: Sequence[GpuGroup],
    *,
    store: RunStore,
    options: RunOptions,
    show: Callable[[SweepView], None],
) -> RunOutcome:
    """Run every trial that the run directory does not hold yet.

    Args:
        store: held for writing. Finished trials in it are not repeated, failed ones are.
        show: called with the live view, a few times a second.
    Raises: RunDirectoryError: its trials were measured with other versions or another driver. TaskError: a task's data
        is not available. GpuError, LeaseHeldError: a GPU is not available. ClusterError: the aggregator died, or a
        worker at its start.
    """
    trial_ids = [trial.trial_id for block in blocks for trial in block.trials]
    known = store.read_trials(trial_ids).filter(attempt=1)
    finished = known.filter(pl.col("status") == "ok")
    manifest: dict[str, Any] | None = None
    interrupted = False
    run = _start_run(sweep, blocks, groups, finished, store=store, options=options, show=show)
    try:
        await_answer(run.aggregator.load_tasks.remote(sweep))
        _remember_references(run.aggregator, finished)
        manifest = build_manifest(
            sweep,
            run.workers.describe(),
            options=options,
            num_trials=len(trial_ids),
            earlier=store.read_manifest(),
        )
        store.write_manifest(manifest)
        _tell_start(run, known.height - finished.height)
        _dispatch(run)
    except KeyboardInterrupt:
        interrupted = True
        message = "interrupted: finished trials are kept; the same command resumes the run"
        tell(run.aggregator, "warning", "interrupted", message)
    finally:
        sensors = _close(run)
    trials = store.gather_trials(trial_ids, complete_trials)
    outcome = _count(run, trials, num_in_sweep=len(trial_ids))
    if interrupted:
        outcome = replace(outcome, interrupted=True, not_restored=list_not_restored(groups))
    if manifest is not None:
        word = "interrupted" if interrupted else "failed" if outcome.num_failed or outcome.num_left else "done"
        store.write_manifest(close_manifest(manifest, word, sensors))
    return outcome


def _start_run(
    sweep: SweepSpec,
    blocks: Sequence[Block],
    groups: Sequence[GpuGroup],
    finished: pl.DataFrame,
    *,
    store: RunStore,
    options: RunOptions,
    show: Callable[[SweepView], None],
) -> _Run:
    """Start the aggregator and the workers. They get ready while the driver goes on."""
    view = SweepView(
        name=sweep.name,
        simulated=any(group.info.simulated for group in groups),
        run_directory=str(store.directory),
        num_trials=sum(len(block.trials) for block in blocks),
        num_done=finished.height,
        num_resumed=finished.height,
        num_with_verdicts=finished.filter(pl.col("verdicts").list.len() > 0).height,
        energy_j=float(finished["energy_j"].sum()),
        start_ns=time.time_ns(),
    )
    show(view)
    begun_on = {row["block_id"]: row["gpu_uuids"][0] for row in finished.select("block_id", "gpu_uuids").to_dicts()}
    gpus = [group.info.uuid for group in groups]
    queue = Queue(blocks, finished["trial_id"].to_list(), begun_on, gpus)
    if options.limit is not None:
        queue.limit(options.limit)
    aggregator = start_aggregator(store.directory, view)
    configs = [
        WorkerConfig(
            group=group,
            sweep=sweep,
            engine=options.engine,
            read_only=options.read_only,
            driver_process_id=os.getpid() if group.host == socket.gethostname() else None,
            commits=options.commits,
            server=options.server,
            num_workers_on_host=count_on_host(groups, group),
        )
        for group in groups
    ]
    return _Run(
        aggregator=aggregator,
        queue=queue,
        workers=WorkerPool(configs, queue, store, aggregator),
        num_before=finished.height,
        planned=queue.trial_ids,
        show=show,
        prefetch=Prefetch(
            list_ahead(blocks, queue.trial_ids, options.engine), options.commits, {group.node_id for group in groups}
        ),
    )


def _dispatch(run: _Run) -> None:
    """Give blocks to the workers until no block is left."""
    while run.workers.assign():
        run.workers.collect(POLL_S)
        for event in run.prefetch.poll():
            tell(run.aggregator, *event)
        _refresh(run)


def _refresh(run: _Run) -> None:
    """Show the live view, with an estimate of the remaining time.

    Raises: ClusterError: the aggregator died.
    """
    elapsed_s = time.monotonic() - run.start_s
    with suppress(GetTimeoutError):
        view: SweepView = await_answer(run.aggregator.snapshot.remote(), timeout_s=SNAPSHOT_LIMIT_S)
        num_now = view.num_done - run.num_before
        remaining_s = run.remaining.estimate(
            view,
            elapsed_s,
            num_done=num_now,
            num_left=len(run.planned) - num_now,
            num_models_waiting=run.queue.num_models_waiting,
        )
        run.aggregator.set_times.remote(elapsed_s, remaining_s)
        run.show(view)


def _close(run: _Run) -> list[SensorFindings]:
    """End the downloads, the workers and the aggregator. A second Ctrl-C ends the wait for them.

    Returns: what the workers have learnt about their GPUs' sensors.
    """
    with suppress(KeyboardInterrupt):
        run.prefetch.stop()
    sensors = run.workers.close()
    with suppress(KeyboardInterrupt, ClusterError):
        _refresh(run)
    with suppress(RayError):
        ray.kill(run.aggregator)
    return sensors


def _count(run: _Run, trials: pl.DataFrame, *, num_in_sweep: int) -> RunOutcome:
    """Count the trials. A second attempt adds a row, and no trial."""
    trials = trials.filter(attempt=1)
    num_ok = trials.filter(pl.col("status") == "ok").height
    return RunOutcome(
        num_ok=num_ok,
        num_failed=trials.height - num_ok,
        num_left=len(run.planned - set(trials["trial_id"])),
        num_in_sweep=num_in_sweep,
    )


def _tell_start(run: _Run, num_failed_before: int) -> None:
    resumed = f"; {run.num_before} finished before" if run.num_before else ""
    again = f"; {num_failed_before} failed before, and are tried again" if num_failed_before else ""
    num_gpus = len(run.workers)
    gpus = "1 GPU" if num_gpus == 1 else f"{num_gpus} GPUs"
    tell(run.aggregator, "info", "sweep_started", f"{len(run.planned)} trials on {gpus}{resumed}{again}")


def _remember_references(aggregator: Any, finished: pl.DataFrame) -> None:
    """Give the aggregator the outputs of default-clock trials of earlier runs, for comparison."""
    is_default = pl.all_horizontal(pl.col(name).is_null() for name in POINT)
    whole = finished.filter(is_default & pl.col("phase_role").is_null())
    for row in whole.sort("start_ns").unique("block_id", keep="first").to_dicts():
        await_answer(aggregator.remember_reference.remote(row["block_id"], row["trial_id"]))
