"""The one engine of a worker: it stays loaded over blocks, and another model replaces it.

A model enters. A `TrialContext` with its engine leaves. Next: `measure.py` runs trials on it.
"""

import time

from runner.execution.worker.engines import EngineSetup, find_server_processes, open_engine
from runner.execution.worker.gpu_session import GpuSession
from runner.execution.worker.reporter import Reporter
from runner.execution.worker.trial.edges import read_process_ids
from runner.execution.worker.trial.measure import TrialContext
from runner.inference.engine import Engine, EngineError
from runner.inference.server.engine import ServerEngine
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec

MEMORY_LIMIT_S = 10.0
MEMORY_SLACK_BYTES = 512 * 1024 * 1024


class EngineSlot:
    """Holds at most one loaded engine on one GPU."""

    def __init__(self, sweep: SweepSpec, setup: EngineSetup, session: GpuSession, reporter: Reporter) -> None:
        self._sweep = sweep
        self._setup = setup
        self._session = session
        self._reporter = reporter
        self._engine: Engine | None = None
        self._context: TrialContext | None = None
        self._loaded: ModelSpec | None = None
        self._unloadable: dict[str, str] = {}
        self._memory_before_bytes = session.gpu.read_memory_used_bytes()
        self._memory_left_behind = False
        self._process_ids: frozenset[int] | None = frozenset()
        self._engine_on_gpu = True
        self._lasting_verdicts: frozenset[str] = frozenset()

    @property
    def lasting_verdicts(self) -> frozenset[str]:
        """Verdicts that a second attempt cannot mend, since the last engine can do nothing about them."""
        if isinstance(self._engine, ServerEngine):
            can_reset = self._engine.can_reset_prefix_cache
            self._lasting_verdicts = frozenset() if can_reset else frozenset({"prefix_cache_not_reset"})
        return self._lasting_verdicts

    def open(self, model: ModelSpec) -> TrialContext:
        """Return the trial context of a model's engine, loading the engine unless it is loaded already.

        Each load makes a new trial context: what a trial context has learnt holds for its engine alone.

        Raises: EngineError: the engine does not load, now or at an earlier try of this run.
        """
        if self._context is not None and self._loaded == model:
            return self._context
        self.close()
        if model.label in self._unloadable:  # a second try would take as long; a later run tries again
            raise EngineError(self._unloadable[model.label])
        self._reporter.update(phase="loading")
        self._reporter.say("info", "engine_loading", f"loading {model.label}")
        self._memory_left_behind &= self._holds_memory()
        others = read_process_ids(self._session.gpu)
        start_s = time.monotonic()
        try:
            self._engine = open_engine(model, self._sweep, self._setup)
        except (EngineError, ValueError) as error:
            self._unloadable[model.label] = str(error)
            raise EngineError(str(error)) from error
        self._note_processes(others)
        self._loaded = model
        self._context = TrialContext(
            engine=self._engine,
            gpu=self._session.gpu,
            lease=self._session.lease,
            sampler=self._session.sampler,
            time_source=self._setup.time_source,
            placement=self._session.placement,
            host=self._session.host,
            engine_process_ids=self._process_ids,
            engine_on_gpu=self._engine_on_gpu,
            memory_left_behind=self._memory_left_behind,
        )
        took_s = time.monotonic() - start_s
        self._reporter.say("info", "engine_loaded", f"{model.label} loaded in {took_s:.0f} s")
        return self._context

    def close(self) -> None:
        """End the engine, if one is loaded, and wait until the GPU's memory is free again."""
        engine, self._engine, self._context, self._loaded = self._engine, None, None, None
        if engine is None:
            return
        engine.close()
        if self._setup.server is not None:  # the server's memory stays with the server
            return
        self._memory_left_behind = not self._await_free_memory()
        if self._memory_left_behind:
            self._reporter.say("warning", "memory_left_behind", "memory is still held after the engine has ended")

    def _note_processes(self, others: frozenset[int] | None) -> None:
        """Take the processes that appeared on the GPU during a load for the engine's.

        In a container, a process's own id differs from the one that the NVIDIA driver lists.
        """
        if isinstance(self._engine, ServerEngine) and self._setup.server is not None:
            found = find_server_processes(self._engine, self._setup.server, self._session.gpu)
            self._process_ids, self._engine_on_gpu = found
            return
        now = read_process_ids(self._session.gpu)
        if now is None or others is None or self._process_ids is None:
            self._process_ids = None
        else:
            self._process_ids |= now - others

    def _await_free_memory(self) -> bool:
        """Wait until the GPU uses no more memory than before the first engine. Returns: False: it still does."""
        deadline_s = time.monotonic() + MEMORY_LIMIT_S
        while self._holds_memory():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.2)
        return True

    def _holds_memory(self) -> bool:
        used_bytes, before_bytes = self._session.gpu.read_memory_used_bytes(), self._memory_before_bytes
        return used_bytes is not None and before_bytes is not None and used_bytes > before_bytes + MEMORY_SLACK_BYTES
