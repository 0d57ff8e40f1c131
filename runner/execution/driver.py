"""The driver: blocks to workers until every trial has its row, whatever dies on the way.

A sweep and its seats enter; a filled run directory and a `RunOutcome` leave. Ray is up already (`cluster.py`).
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from runner.analysis.across import complete_trials
from runner.execution.actors import await_answer, start_aggregator, start_worker
from runner.execution.cluster import ClusterError, Seat
from runner.execution.dispatch import Assignment, Queue
from runner.execution.identity import identify_without_point
from runner.execution.manifest import RunOptions, build_manifest, close_manifest
from runner.execution.prefetch import Prefetch, list_ahead
from runner.execution.worker import WorkerConfig
from runner.results.live import Event, EventLevel, SweepView
from runner.results.measurement import Placement
from runner.results.sensors import SensorFindings
from runner.results.store import RunStore
from runner.spec.sweep import SweepSpec
from runner.spec.trial import RETRY_SUFFIX, Block, Trial

POLL_S = 0.25
STOP_LIMIT_S = 20.0
CLOSE_LIMIT_S = 40.0
WRITE_LIMIT_S = 30.0
MAX_RESTARTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """How a run ended."""

    num_ok: int
    num_failed: int
    num_left: int
    """Trials that this run set out to do and that have no row; those beyond --limit are not among them."""
    interrupted: bool


@dataclass(kw_only=True)
class _Worker:
    config: WorkerConfig
    actor: Any
    task: Any = None
    assignment: Assignment | None = None
    num_restarts: int = 0

    @property
    def seat(self) -> Seat:
        return self.config.seat


@dataclass(kw_only=True)
class _Run:
    """What is going on: the driver's own state, in one thread."""

    store: RunStore
    aggregator: Any
    queue: Queue
    workers: list[_Worker]
    num_before: int
    planned: frozenset[str]
    """The trials that this run set out to do."""
    show: Callable[[SweepView], None]
    prefetch: Prefetch
    start_s: float = field(default_factory=time.monotonic)
    start_ns: int = field(default_factory=time.time_ns)


def run_sweep(
    sweep: SweepSpec,
    blocks: Sequence[Block],
    seats: Sequence[Seat],
    *,
    store: RunStore,
    options: RunOptions,
    show: Callable[[SweepView], None],
) -> RunOutcome:
    """Run every trial that the run directory does not hold yet.

    Args:
        store: held for writing; what is finished in it is not repeated, what failed is tried again.
        show: takes the live view, a few times a second.
    Raises: RunDirectoryError: the directory was measured with something else; TaskError: a task cannot be had;
        GpuError, LeaseHeldError: a board cannot be had.
    """
    trial_ids = [trial.trial_id for block in blocks for trial in block.trials]
    known = store.read_trials(trial_ids).filter(~pl.col("trial_id").str.ends_with(RETRY_SUFFIX))
    finished = known.filter(pl.col("status") == "ok")
    manifest: dict[str, Any] | None = None
    interrupted = False
    run = _start_run(sweep, blocks, seats, finished, store=store, options=options, show=show)
    try:
        await_answer(run.aggregator.load_tasks.remote(sweep))
        _remember_references(run.aggregator, finished)
        manifest = build_manifest(
            sweep,
            [await_answer(worker.actor.describe.remote()) for worker in run.workers],
            options=options,
            num_trials=len(trial_ids),
            earlier=store.read_manifest(),
        )
        store.write_manifest(manifest)
        _tell_start(run, known.height - finished.height)
        _dispatch(run)
    except KeyboardInterrupt:
        interrupted = True
        message = "interrupted: what is finished is kept; the same command goes on from here"
        _tell(run, "warning", "interrupted", message)
    finally:
        sensors = _close(run)
    trials = store.gather_trials(trial_ids, complete_trials)
    outcome = _count(run, trials, interrupted)
    if manifest is not None:
        word = "interrupted" if interrupted else "failed" if outcome.num_failed or outcome.num_left else "done"
        store.write_manifest(close_manifest(manifest, word, sensors))
    return outcome


def _start_run(
    sweep: SweepSpec,
    blocks: Sequence[Block],
    seats: Sequence[Seat],
    finished: pl.DataFrame,
    *,
    store: RunStore,
    options: RunOptions,
    show: Callable[[SweepView], None],
) -> _Run:
    """Put the aggregator and the workers to work; they get ready while the driver goes on."""
    view = SweepView(
        name=sweep.name,
        simulated=any(seat.info.simulated for seat in seats),
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
    boards = [seat.info.uuid for seat in seats]
    queue = Queue(blocks, finished["trial_id"].to_list(), begun_on, boards)
    if options.limit is not None:
        queue.limit(options.limit)
    aggregator = start_aggregator(store.directory, view)
    configs = [
        WorkerConfig(
            seat=seat,
            sweep=sweep,
            engine=options.engine,
            read_only=options.read_only,
            driver_process_id=os.getpid() if seat.host == socket.gethostname() else None,
            commits=options.commits,
        )
        for seat in seats
    ]
    return _Run(
        store=store,
        aggregator=aggregator,
        queue=queue,
        workers=[_Worker(config=config, actor=start_worker(config, aggregator)) for config in configs],
        num_before=finished.height,
        planned=queue.trial_ids,
        show=show,
        prefetch=Prefetch(
            list_ahead(blocks, queue.trial_ids, options.engine), options.commits, {seat.node_id for seat in seats}
        ),
    )


# the loop ------------------------------------------------------------------------------------------------------------


def _dispatch(run: _Run) -> None:
    while True:
        for worker in run.workers:
            if worker.task is None and (assignment := run.queue.take(worker.seat.info.uuid)):
                worker.assignment = assignment
                worker.task = worker.actor.run_block.remote(assignment.block, assignment.trial_ids)
        busy = [worker for worker in run.workers if worker.task is not None]
        if not busy:
            return
        ready, _ = ray.wait([worker.task for worker in busy], timeout=POLL_S)
        for worker in busy:
            if worker.task in ready:
                _take_back(run, worker)
        for event in run.prefetch.poll():
            _tell(run, *event)
        _refresh(run)


def _take_back(run: _Run, worker: _Worker) -> None:
    """A worker is done with its block, or has died over it."""
    assignment, task = worker.assignment, worker.task
    worker.assignment = worker.task = None
    assert assignment is not None
    try:
        if ray.get(task):
            return
        reason, can_restart = "it was stopped", False
    except RayTaskError as error:  # before RayActorError: the cause may be that of another actor
        reason, can_restart = str(error.cause), False
    except RayActorError:
        reason, can_restart = "its process died", True
    except RayError as error:
        reason, can_restart = str(error), True
    with suppress(GetTimeoutError):  # the aggregator answers once it has written what the worker had handed over
        await_answer(run.aggregator.snapshot.remote(), timeout_s=WRITE_LIMIT_S)
    ids = [trial.trial_id for trial in assignment.block.trials]
    rows = run.store.read_trials(ids)
    # Rows that failed in an earlier run are not the work of this worker: those trials are still to be run again.
    finished = set(rows.filter((pl.col("status") == "ok") | (pl.col("start_ns") >= run.start_ns))["trial_id"])
    suspect = run.queue.give_back(assignment, finished)
    if suspect is not None:
        trial = next(trial for trial in assignment.block.trials if trial.trial_id == suspect)
        _fail(run, worker.seat, trial, f"two workers died while it ran: {reason}")
    worker.num_restarts += 1
    with suppress(RayError):
        ray.kill(worker.actor)
    if can_restart and worker.num_restarts <= MAX_RESTARTS:
        _tell(run, "warning", "worker_restarted", f"GPU {worker.seat.label}: the worker is started again: {reason}")
        worker.actor = start_worker(worker.config, run.aggregator)
    else:
        run.queue.lose_board(worker.seat.info.uuid)
        _tell(run, "error", "gpu_lost", f"GPU {worker.seat.label} takes no further part: {reason}")
        run.workers.remove(worker)
        left = assignment.trial_ids - finished - {suspect}
        in_progress = next((trial for trial in assignment.block.trials if trial.trial_id in left), None)
        if in_progress is not None and not run.workers:  # otherwise another board measures it
            _fail(run, worker.seat, in_progress, f"the last board was lost while it ran: {reason}")


def _fail(run: _Run, seat: Seat, trial: Trial, error: str) -> None:
    identity = identify_without_point(trial, "generate")
    placement = Placement(
        gpu_uuids=(seat.info.uuid,),
        gpu_name=seat.info.name,
        host=seat.host,
        fingerprint="",
        simulated=seat.info.simulated,
    )
    await_answer(run.aggregator.fail_trial.remote(identity, placement, error, time.time_ns()))


def _refresh(run: _Run) -> None:
    """Show what is happening; the rest takes as long a trial as the ones of this run took.

    Raises: ClusterError: the aggregator died.
    """
    elapsed_s = time.monotonic() - run.start_s
    with suppress(GetTimeoutError):
        view: SweepView = await_answer(run.aggregator.snapshot.remote(), timeout_s=10)
        num_now = view.num_done - run.num_before
        remaining_s = elapsed_s / num_now * (len(run.planned) - num_now) if num_now else None
        run.aggregator.set_times.remote(elapsed_s, remaining_s)
        run.show(view)


# ends ----------------------------------------------------------------------------------------------------------------


def _close(run: _Run) -> list[SensorFindings]:
    """Stop what runs, restore every board, end every engine; whoever does not answer in time is ended by force.

    A second Ctrl-C ends the wait. The guard of each lease restores the board and ends the engine in any case.

    Returns: what the workers that answered have learnt of their boards' sensors.
    """
    sensors: list[SensorFindings] = []
    with suppress(KeyboardInterrupt):
        run.prefetch.stop()
        busy = [worker for worker in run.workers if worker.task is not None]
        for worker in busy:
            worker.actor.stop.remote()
        if busy:
            ray.wait([worker.task for worker in busy], num_returns=len(busy), timeout=STOP_LIMIT_S)
        closing = [worker.actor.close.remote() for worker in run.workers]
        for closed in closing:
            with suppress(RayError):
                found = ray.get(closed, timeout=CLOSE_LIMIT_S)
                sensors += [found] if found else []
        with suppress(ClusterError):
            _refresh(run)
    for actor in (*(worker.actor for worker in run.workers), run.aggregator):
        with suppress(RayError):
            ray.kill(actor)
    return sensors


def _count(run: _Run, trials: pl.DataFrame, interrupted: bool) -> RunOutcome:
    """Count what was asked for: a retry is a row more, and no trial more."""
    trials = trials.filter(~pl.col("trial_id").str.ends_with(RETRY_SUFFIX))
    num_ok = trials.filter(pl.col("status") == "ok").height
    return RunOutcome(
        num_ok=num_ok,
        num_failed=trials.height - num_ok,
        num_left=len(run.planned - set(trials["trial_id"])),
        interrupted=interrupted,
    )


# events --------------------------------------------------------------------------------------------------------------


def _tell(run: _Run, level: EventLevel, kind: str, message: str) -> None:
    with suppress(RayError):
        run.aggregator.report_event.remote(Event(time_ns=time.time_ns(), level=level, kind=kind, message=message))


def _tell_start(run: _Run, num_failed_before: int) -> None:
    resumed = f"; {run.num_before} finished before" if run.num_before else ""
    again = f"; {num_failed_before} that failed are tried again" if num_failed_before else ""
    num_gpus = len(run.workers)
    gpus = "1 GPU" if num_gpus == 1 else f"{num_gpus} GPUs"
    _tell(run, "info", "sweep_started", f"{len(run.planned)} trials on {gpus}{resumed}{again}")


def _remember_references(aggregator: Any, finished: pl.DataFrame) -> None:
    is_default = pl.all_horizontal(
        pl.col(name).is_null()
        for name in ("sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested")
    )
    whole = finished.filter(is_default & pl.col("phase_role").is_null())
    for row in whole.sort("start_ns").unique("block_id", keep="first").to_dicts():
        await_answer(aggregator.remember_reference.remote(row["block_id"], row["trial_id"]))
