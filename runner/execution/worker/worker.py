"""A worker: one actor that holds one GPU, keeps an engine loaded over blocks, and measures their trials.

Blocks come from the driver. Measurements, progress and events go to the aggregator. Next: `block_measurer.py`.
"""

import threading
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from runner.execution.gpu_group import GpuDescription, GpuGroup
from runner.execution.worker.block_measurer import BlockMeasurer
from runner.execution.worker.engine_slot import EngineSlot
from runner.execution.worker.engines import EngineSetup
from runner.execution.worker.fingerprint import describe_versions
from runner.execution.worker.gpu_session import GpuSession, hold_gpu
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.trial.measure import InterruptedTrialError
from runner.hardware.gpu import GpuError
from runner.inference.server.facts import AttachedServer
from runner.physics.gpu_model import find_gpu_model
from runner.results.sensors import SensorFindings
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block
from runner.tasks.chat import load_chat_template
from runner.tasks.harness.task import RenderChat
from runner.tasks.loading import describe_task, load_task
from runner.tasks.task import Task, TaskError
from runner.timebase import TimeSource, VirtualTime, WallTime


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What the driver tells a worker at its start."""

    group: GpuGroup
    sweep: SweepSpec
    engine: str
    """"vllm", "simulated" or "server"."""
    read_only: bool
    driver_process_id: int | None
    """The driver, if it is on this worker's host. When it dies, the guard restores the GPU."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """The commit that each model of the hub is pinned to, by label."""
    server: AttachedServer | None = None
    """The server that the run attaches to; None unless the engine is "server"."""
    num_workers_on_host: int = 1
    """The workers of this run on this worker's host, which share the host's energy."""


class GpuWorker:
    """The worker of one GPU. `run_block` runs in one thread, `stop` in another.

    Args:
        aggregator: an actor handle.
    """

    def __init__(self, config: WorkerConfig, aggregator: Any) -> None:
        self._config = config
        self._interrupted = threading.Event()
        self._resources = ExitStack()
        self._time_source: TimeSource = VirtualTime(time.time_ns()) if config.engine == "simulated" else WallTime()
        self._reporter = Reporter(aggregator, config.group.info.uuid, self._time_source)
        # Ray would hand the driver an error of a constructor as text alone, so `describe` raises it instead.
        self._refusal: Exception | None = None
        try:
            self._take_gpu()
        except (GpuError, ValueError) as error:
            self._resources.close()
            self._refusal = error

    def _take_gpu(self) -> None:
        """Raises: GpuError, ValueError: the GPU is not available."""
        config = self._config
        self._session: GpuSession = self._resources.enter_context(
            hold_gpu(
                config.group,
                self._time_source,
                self._reporter,
                engine=config.engine,
                server=config.server,
                read_only=config.read_only,
                driver_process_id=config.driver_process_id,
                num_workers_on_host=config.num_workers_on_host,
            )
        )
        self._slot = EngineSlot(config.sweep, self._engine_setup(), self._session, self._reporter)
        self._measurer = BlockMeasurer(
            config.sweep, self._session, self._slot, self._reporter, is_interrupted=self._interrupted.is_set
        )

    def describe(self) -> GpuDescription:
        """Return the GPU, its sensors, where its trials are measured, and the versions behind the fingerprint.

        Raises: GpuError, LeaseHeldError, ValueError: the GPU is not available.
        """
        self._require_gpu()
        return GpuDescription(
            info=self._session.info,
            placement=self._session.placement,
            versions=describe_versions(),
            sensors=self._measurer.sensors,
        )

    def run_block(self, block: Block, trial_ids: Collection[str]) -> bool:
        """Measure the trials of a block that `trial_ids` names, in the block's order, and some of them once more.

        Returns: False if the run was interrupted before the end.
        Raises: GpuLostError: the GPU no longer answers. The errors of `describe`.
        """
        self._require_gpu()
        trials = [trial for trial in block.trials if trial.trial_id in trial_ids]
        self._reporter.update(
            model=block.model.label,
            task=block.task.display_name,
            load=block.load,
            sm_clock_mhz_requested=None,
        )
        try:
            task = self._load_task(block)
        except (TaskError, OSError, ValueError) as error:  # no chat template, or data gone since the start of the run
            for trial in trials:
                self._measurer.fail(trial, describe_task(block.task.name).request_kind, error)
            self._reporter.await_writes()
            return True
        self._reporter.add_samples(block.task.display_name, task.samples())
        try:
            self._measurer.measure(block, task, trials)
            self._reporter.update(phase="idle", sm_clock_mhz_requested=None)
        except InterruptedTrialError:
            return False
        finally:  # even when the GPU is lost: the next worker must not repeat what is measured
            self._reporter.await_writes()
        return True

    def stop(self) -> None:
        """Interrupt the trial in progress. `run_block` returns once the requests in flight have ended."""
        self._interrupted.set()

    def close(self) -> SensorFindings | None:
        """End the engine, restore the GPU's settings and release the GPU.

        Returns: what is known about the GPU's sensors by now; None where the worker never had the GPU.
        """
        if self._refusal is not None:
            return None
        self._reporter.update(phase="closing")
        try:
            self._slot.close()
        finally:
            try:
                self._resources.close()
            except GpuError as error:  # the journal stays, and the guard goes on trying
                advice = "if its guard does not succeed either, sweep doctor --reset-clocks puts it back"
                message = f"GPU {self._config.group.label} is not at the GPU's own settings: {error}; {advice}"
                self._reporter.say("error", "board_not_restored", message)
        self._reporter.update(phase="idle", model=None, task=None, sm_clock_mhz_requested=None)
        self._reporter.await_writes()
        return self._measurer.sensors

    def _require_gpu(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _engine_setup(self) -> EngineSetup:
        gpu = self._session.gpu
        return EngineSetup(
            name=self._config.engine,
            time_source=self._time_source,
            gpu_model=find_gpu_model(gpu.info.name) if gpu.info.simulated else None,
            gpu_state_dir=gpu.address.gpu_state_dir,
            commits=self._config.commits,
            server=self._config.server,
            is_interrupted=self._interrupted.is_set,
        )

    def _load_task(self, block: Block) -> Task:
        sweep = self._config.sweep
        return load_task(
            block.task,
            seed=sweep.seed,
            max_output_tokens=sweep.max_output_tokens,
            fixed_output_length=sweep.fixed_output_length,
            render_chat=self._load_chat_template(block.model),
        )

    def _load_chat_template(self, model: ModelSpec) -> RenderChat | None:
        if not model.apply_chat_template or self._config.engine == "simulated":
            return None
        return load_chat_template(model.id, self._config.commits.get(model.label, model.revision))
