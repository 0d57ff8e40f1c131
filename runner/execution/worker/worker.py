"""A worker: one actor that holds one GPU, keeps an engine loaded over blocks, and measures their trials.

Blocks come from the driver; measurements, progress and events go to the aggregator. What fails inside a trial becomes
that trial's row; a GPU that is lost ends the worker.
"""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from runner.execution.driver.cluster import GpuGroup
from runner.execution.driver.manifest import Description
from runner.execution.worker.engine_slot import EngineSlot
from runner.execution.worker.engines import EngineSetup
from runner.execution.worker.fingerprint import describe_versions
from runner.execution.worker.gpu_session import GpuSession, hold_gpu
from runner.execution.worker.measure import (
    InterruptedTrialError,
    Procedure,
    TrialContext,
    choose_procedure,
    measure_trial,
)
from runner.execution.worker.prompt_likelihood import note_likelihoods
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.rounds import shorten
from runner.execution.worker.sensor_calibration import watch_first_load
from runner.execution.worker.trial_identity import identify, identify_without_point
from runner.hardware.gpu import GpuError, GpuLostError
from runner.inference.engine import EngineError
from runner.physics.gpu_model import find_gpu_model
from runner.results.live import GpuPhase
from runner.results.measurement import Identity
from runner.results.sensors import SensorFindings
from runner.spec.load import Load
from runner.spec.request import Request, RequestKind
from runner.spec.sweep import ModelSpec, SweepSpec
from runner.spec.trial import Block, Trial
from runner.tasks.chat import load_chat_template
from runner.tasks.harness.task import RenderChat
from runner.tasks.loading import describe_task, load_task
from runner.tasks.task import Task, TaskError
from runner.timebase import TimeSource, VirtualTime, WallTime


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is told once."""

    group: GpuGroup
    sweep: SweepSpec
    engine: str
    """"vllm" or "simulated"."""
    read_only: bool
    driver_process_id: int | None
    """The driver, if it is on this worker's host: when it dies, the guard restores the GPU."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """What each model of the hub is pinned to, by label."""


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A block's own things, made once for each bench that it meets."""

    context: TrialContext
    requests: Sequence[Request]
    procedure: Procedure


class GpuWorker:
    """One GPU's worker. `aggregator` is an actor handle; `run_block` runs in one thread, `stop` in another."""

    def __init__(self, config: WorkerConfig, aggregator: Any) -> None:
        self._config = config
        self._interrupted = threading.Event()
        self._resources = ExitStack()
        self._time_source: TimeSource = WallTime() if config.engine == "vllm" else VirtualTime(time.time_ns())
        self._reporter = Reporter(aggregator, config.group.info.uuid, self._time_source)
        # What a constructor raises reaches the driver as text alone, so it is kept until somebody asks.
        self._refusal: Exception | None = None
        try:
            self._take_gpu()
        except (GpuError, ValueError) as error:
            self._resources.close()
            self._refusal = error

    def _take_gpu(self) -> None:
        """Raises: GpuError, ValueError: the GPU cannot be had."""
        config = self._config
        self._session: GpuSession = self._resources.enter_context(
            hold_gpu(
                config.group,
                self._time_source,
                self._reporter,
                engine=config.engine,
                read_only=config.read_only,
                driver_process_id=config.driver_process_id,
            )
        )
        self._sensors = self._session.sensors_at_rest
        self._has_seen_load = False
        self._slot = EngineSlot(config.sweep, self._engine_setup(), self._session, self._reporter)

    # what the driver calls -------------------------------------------------------------------------------------------

    def describe(self) -> Description:
        """Return the GPU and its sensors, where its trials are measured, the versions behind its fingerprint.

        Raises: GpuError, LeaseHeldError, ValueError: the GPU cannot be had.
        """
        self._require_gpu()
        return Description(self._session.info, self._session.placement, describe_versions(), self._sensors)

    def run_block(self, block: Block, trial_ids: Collection[str]) -> bool:
        """Measure those trials of a block that `trial_ids` names, in the block's order; then once more what may profit.

        Returns: False if it was given up half-way, since the run was asked to stop.
        Raises: GpuLostError: the GPU no longer answers; as `describe`.
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
        except (TaskError, OSError, ValueError) as error:  # a model without a chat template, data gone since the start
            for trial in trials:
                self._fail(trial, describe_task(block.task.name).request_kind, error)
            self._reporter.await_writes()
            return True
        self._reporter.add_samples(block.task.display_name, task.samples())
        try:
            self._measure_each(block, task, trials)
            self._measure_again(block, task)
            self._reporter.update(phase="idle", sm_clock_mhz_requested=None)
        except InterruptedTrialError:
            return False
        finally:  # also when the GPU is lost: what was measured before is not to be measured again
            self._reporter.await_writes()
        return True

    def stop(self) -> None:
        """Give up the trial in progress; `run_block` returns as soon as what is in flight has drained."""
        self._interrupted.set()

    def close(self) -> SensorFindings | None:
        """End the engine, put the clocks back, let the GPU go.

        Returns: what is known of the GPU's sensors by now; None where the GPU was never had.
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
        return self._sensors

    def _require_gpu(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    # one trial -------------------------------------------------------------------------------------------------------

    def _measure_each(self, block: Block, task: Task, trials: Sequence[Trial], attempt: int = 1) -> None:
        """Measure some trials of a block; what goes wrong in one becomes its row.

        Raises: InterruptedTrialError, GpuLostError.
        """
        ready: _Ready | None = None
        for trial in trials:
            try:
                if self._interrupted.is_set():
                    raise InterruptedTrialError
                context = self._slot.open(block.model)
                if ready is None or ready.context is not context:
                    ready = self._get_ready(context, task, block)
                self._measure(ready, identify(trial, task.request_kind, self._session.info, attempt=attempt))
            except (InterruptedTrialError, GpuLostError):
                raise
            except (EngineError, GpuError, TaskError, ValueError, RuntimeError) as error:
                self._fail(trial, task.request_kind, error, attempt)

    def _measure_again(self, block: Block, task: Task) -> None:
        """Measure those trials of a block once more whose verdicts may go away. Raises: as `_measure_each`."""
        ids = self._reporter.list_retries([trial.trial_id for trial in block.trials])
        if ids:
            self._reporter.say("info", "trials_retried", f"{len(ids)} of {len(block.trials)} trials once more")
            self._measure_each(block, task, [trial for trial in block.trials if trial.trial_id in ids], attempt=2)

    def _get_ready(self, context: TrialContext, task: Task, block: Block) -> _Ready:
        """Make a block's requests and measure what must be known beforehand. Raises: InterruptedTrialError."""
        engine = context.engine
        requests = task.requests(engine.encode, max_model_len=engine.max_model_len, vocab_size=engine.vocab_size)
        if not requests:
            raise TaskError(f"{task.name} has no documents")
        procedure = choose_procedure(self._config.sweep, block)
        if not self._has_seen_load:
            self._learn_sensors(context, requests, block.load, procedure)
        if block.task.measure_surprise:
            self._reporter.update(phase="warming up", sm_clock_mhz_requested=None)
            note_likelihoods(
                context, block.task.display_name, requests, procedure, is_interrupted=self._interrupted.is_set
            )
        return _Ready(context=context, requests=requests, procedure=procedure)

    def _learn_sensors(
        self, context: TrialContext, requests: Sequence[Request], load: Load, procedure: Procedure
    ) -> None:
        """Watch the sensors once more now that there is an engine to put a load on them, before any window opens."""
        self._reporter.update(phase="warming up", sm_clock_mhz_requested=None)
        self._sensors = watch_first_load(
            context, requests, load, procedure, self._sensors, is_interrupted=self._interrupted.is_set
        )
        self._session.sampler.use(self._sensors)
        self._has_seen_load = True
        self._reporter.say("info", "sensors_watched", f"sensors under a load: {self._sensors.choice}")

    def _measure(self, ready: _Ready, identity: Identity) -> None:
        requests = shorten(ready.requests, identity.phase_role)
        window_start_ns = 0
        prompt_tokens_per_request = sum(len(request.prompt_token_ids) for request in requests) / len(requests)

        def on_phase(phase: GpuPhase) -> None:
            nonlocal window_start_ns
            window_start_ns = self._time_source.now_ns()
            self._reporter.update(phase=phase)

        def on_progress(num_requests: int, num_tokens: int) -> None:
            if identity.request_kind == "loglikelihood":
                num_tokens = round(num_requests * prompt_tokens_per_request)
            self._reporter.send_progress(
                window_start_ns=window_start_ns, num_requests=num_requests, num_tokens=num_tokens
            )

        token_kind = "output" if identity.request_kind == "generate" else "prompt"
        self._reporter.update(sm_clock_mhz_requested=identity.sm_clock_mhz_requested, token_kind=token_kind)
        measurement = measure_trial(
            ready.context,
            identity,
            requests,
            ready.procedure,
            on_phase=on_phase,
            on_progress=on_progress,
            is_interrupted=self._interrupted.is_set,
        )
        self._reporter.finish(measurement)

    def _fail(self, trial: Trial, kind: RequestKind, error: Exception, attempt: int = 1) -> None:
        try:
            identity = identify(trial, kind, self._session.info, attempt=attempt)
        except (GpuError, ValueError):
            identity = identify_without_point(trial, kind, attempt=attempt)
        self._reporter.fail(identity, self._session.placement, error)
        if isinstance(error, EngineError):
            self._slot.close()

    # engine and task -------------------------------------------------------------------------------------------------

    def _engine_setup(self) -> EngineSetup:
        gpu = self._session.gpu
        return EngineSetup(
            name=self._config.engine,
            time_source=self._time_source,
            gpu_model=find_gpu_model(gpu.info.name) if gpu.info.simulated else None,
            gpu_state_dir=gpu.nvml.state_dir / gpu.info.uuid if gpu.info.simulated else None,
            commits=self._config.commits,
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
        if not model.apply_chat_template or self._config.engine != "vllm":
            return None
        return load_chat_template(model.id, self._config.commits.get(model.label, model.revision))
