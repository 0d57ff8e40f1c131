"""The trials of a block, one after the other: measured, failed, or measured once more.

A block and its task enter. The reporter gets a measurement or a failed trial for each. Next: `measure.py` measures one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runner.execution.worker.engine_slot import EngineSlot
from runner.execution.worker.gpu_session import GpuSession
from runner.execution.worker.prompt_likelihood import note_likelihoods
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.sensor_calibration import watch_first_load
from runner.execution.worker.trial.capacity import Capacity, find_capacity
from runner.execution.worker.trial.measure import (
    InterruptedTrialError,
    TrialContext,
    measure_trial,
)
from runner.execution.worker.trial.procedure import Procedure, choose_procedure
from runner.execution.worker.trial.rounds import shorten, shuffle_samples
from runner.execution.worker.trial_identity import identify, identify_without_point
from runner.hardware.gpu import GpuError, GpuLostError
from runner.inference.engine import EngineError
from runner.results.live import GpuPhase
from runner.results.measurement import Identity
from runner.results.sensors import SensorFindings
from runner.spec.load import Load, OpenLoop
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Request, RequestKind
from runner.spec.serving.slo import Slo
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block, Trial
from runner.tasks.task import Task, TaskError


@dataclass(frozen=True, kw_only=True)
class _PreparedBlock:
    """What the trials of a block share, made once for each trial context."""

    context: TrialContext
    requests: Sequence[Request]
    procedure: Procedure
    load: Load
    """The block's load, with its rate known."""


class BlockMeasurer:
    """Measures blocks on one GPU, and keeps what it has learnt about the GPU's sensors.

    Args:
        slot: opens the engine of a block's model.
        reporter: takes the trials, and what happens on the GPU.
        is_interrupted: asked before each trial and each request.
    """

    def __init__(
        self,
        sweep: SweepSpec,
        session: GpuSession,
        slot: EngineSlot,
        reporter: Reporter,
        *,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._sweep = sweep
        self._session = session
        self._slot = slot
        self._reporter = reporter
        self._is_interrupted = is_interrupted
        self._sensors = session.sensors_at_rest
        self._has_seen_load = False

    @property
    def sensors(self) -> SensorFindings:
        """What is known about the GPU's sensors by now."""
        return self._sensors

    def measure(self, block: Block, task: Task, trials: Sequence[Trial]) -> None:
        """Measure some trials of a block, then once more those of the block whose verdicts may not come back.

        Raises: InterruptedTrialError, GpuLostError.
        """
        self._measure_each(block, task, trials)
        retried = self._reporter.list_retries([trial.trial_id for trial in block.trials], self._slot.lasting_verdicts)
        if retried:
            self._reporter.say("info", "trials_retried", f"{len(retried)} of {len(block.trials)} trials once more")
            self._measure_each(block, task, [trial for trial in block.trials if trial.trial_id in retried], attempt=2)

    def fail(self, trial: Trial, kind: RequestKind, error: Exception, attempt: int = 1) -> None:
        """Hand over a trial that failed. An engine that failed is closed."""
        try:
            identity = identify(trial, kind, self._session.info, attempt=attempt)
        except (GpuError, ValueError):
            identity = identify_without_point(trial, kind, attempt=attempt)
        self._reporter.fail(identity, self._session.placement, error)
        if isinstance(error, EngineError):
            self._slot.close()

    def _measure_each(self, block: Block, task: Task, trials: Sequence[Trial], attempt: int = 1) -> None:
        """Measure trials of a block. A trial that raises becomes a failed row.

        Raises: InterruptedTrialError, GpuLostError.
        """
        prepared: _PreparedBlock | None = None
        for trial in trials:
            try:
                if self._is_interrupted():
                    raise InterruptedTrialError
                context = self._slot.open(block.model)
                if prepared is None or prepared.context is not context:
                    prepared = self._prepare(context, task, block)
                identity = identify(trial, task.request_kind, self._session.info, attempt=attempt)
                capacity_per_s = self._find_capacity_at(prepared, block, identity)
                self._measure(prepared, replace(identity, load=prepared.load), capacity_per_s)
            except (InterruptedTrialError, GpuLostError):
                raise
            except (EngineError, GpuError, TaskError, ValueError, RuntimeError) as error:
                if isinstance(error, EngineError) and self._is_interrupted():  # the wait for an engine was broken off
                    raise InterruptedTrialError from error
                self.fail(trial, task.request_kind, error, attempt)

    def _prepare(self, context: TrialContext, task: Task, block: Block) -> _PreparedBlock:
        """Make a block's requests, and measure what its trials need beforehand. Raises: InterruptedTrialError."""
        engine = context.engine
        requests = task.requests(engine.encode, max_model_len=engine.max_model_len, vocab_size=engine.vocab_size)
        if not requests:
            raise TaskError(f"{task.name} has no documents")
        procedure = choose_procedure(self._sweep, block)
        if not self._has_seen_load:
            self._learn_sensors(context, requests, block.load, procedure)
        if block.task.measure_surprise:
            self._reporter.update(phase="warming up", sm_clock_mhz_requested=None)
            note_likelihoods(context, block.task.display_name, requests, procedure, is_interrupted=self._is_interrupted)
        load = block.load
        if isinstance(load, OpenLoop) and load.request_rate_per_s is None:
            load = self._find_rate(context, requests, procedure, block, load)
        return _PreparedBlock(context=context, requests=requests, procedure=procedure, load=load)

    def _find_rate(
        self, context: TrialContext, requests: Sequence[Request], procedure: Procedure, block: Block, load: OpenLoop
    ) -> OpenLoop:
        """Return a load with its rate: its share of the capacity at the default clock, which is sought once a run.

        Raises: TaskError: no rate keeps the SLO. InterruptedTrialError.
        """
        slo = block.trials[0].slo
        assert slo is not None, "the checks of the sweep file refuse a share of capacity without an SLO"
        about = {
            "model": block.model.label,
            "task": block.task.display_name,
            "gpu_name": self._session.info.name,
            "burstiness": str(load.burstiness),
            "slo": str(slo),
        }
        key = f"{about} {block.model!r} {block.task!r}"
        known = self._reporter.read_capacity(key)
        if known is None:
            context.lease.apply(OperatingPoint())
            found = self._search(context, requests, procedure, slo, load.burstiness)
            if found.rate_per_s is None:
                raise TaskError(
                    f"no request rate keeps the SLO at the default clock: {slo}. Promise more time, or give the rates "
                    "in requests/s"
                )
            known = self._reporter.keep_capacity(key, about, found.rate_per_s)
            message = f"{about['task']} on {about['model']}: capacity {known:.4g} requests/s ({slo})"
            self._reporter.say("info", "capacity_found", message)
        return load.at_capacity(known)

    def _find_capacity_at(self, prepared: _PreparedBlock, block: Block, identity: Identity) -> float | None:
        """Return the capacity at a trial's operating point, where the task asks for it; None where it has none.

        Raises: InterruptedTrialError.
        """
        if not block.task.find_capacity or identity.slo is None or not isinstance(prepared.load, OpenLoop):
            return None
        context = prepared.context
        context.lease.apply(identity.operating_point)
        burstiness = prepared.load.burstiness
        return self._search(context, prepared.requests, prepared.procedure, identity.slo, burstiness).rate_per_s

    def _search(
        self,
        context: TrialContext,
        requests: Sequence[Request],
        procedure: Procedure,
        slo: Slo,
        burstiness: float,
    ) -> Capacity:
        self._reporter.update(phase="warming up")
        found = find_capacity(
            context.engine, requests, slo, procedure, burstiness=burstiness, is_interrupted=self._is_interrupted
        )
        if self._is_interrupted():
            raise InterruptedTrialError
        return found

    def _learn_sensors(
        self, context: TrialContext, requests: Sequence[Request], load: Load, procedure: Procedure
    ) -> None:
        """Watch the sensors once more, before any window, now that an engine can put a load on the GPU."""
        self._reporter.update(phase="warming up", sm_clock_mhz_requested=None)
        self._sensors = watch_first_load(
            context, requests, load, procedure, self._sensors, is_interrupted=self._is_interrupted
        )
        self._session.sampler.use(self._sensors)
        self._has_seen_load = True
        self._reporter.say("info", "sensors_watched", f"sensors under a load: {self._sensors.choice}")

    def _measure(self, prepared: _PreparedBlock, identity: Identity, capacity_per_s: float | None) -> None:
        requests = shorten(prepared.requests, identity.phase_role)
        if prepared.procedure.max_window_s is not None and prepared.procedure.holds_rounds:
            requests = shuffle_samples(requests, identity.row_id)
        window_start_ns = 0
        prompt_tokens_per_request = sum(len(request.prompt_token_ids) for request in requests) / len(requests)
        time_source = prepared.context.time_source

        def on_phase(phase: GpuPhase) -> None:
            nonlocal window_start_ns
            window_start_ns = time_source.now_ns()
            self._reporter.update(phase=phase)

        def on_progress(num_requests: int, num_tokens: int) -> None:
            if identity.request_kind == "loglikelihood":
                num_tokens = round(num_requests * prompt_tokens_per_request)
            self._reporter.send_progress(
                window_start_ns=window_start_ns, num_requests=num_requests, num_tokens=num_tokens
            )

        token_kind = "output" if identity.request_kind == "generate" else "prompt"
        self._reporter.update(sm_clock_mhz_requested=identity.operating_point.sm_clock_mhz, token_kind=token_kind)
        measurement = measure_trial(
            prepared.context,
            identity,
            requests,
            prepared.procedure,
            on_phase=on_phase,
            on_progress=on_progress,
            is_interrupted=self._is_interrupted,
        )
        self._reporter.finish(replace(measurement, capacity_per_s=capacity_per_s))
