"""vLLM as an engine: real tokens, from a GPU or from the CPU.

Importing this module imports nothing heavy; opening an engine imports vLLM, 0.26 to 0.32. While an engine opens, this
process's environment holds defaults (see `processes`), which the engine's processes inherit.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress

from runner.inference.arrivals import Arrivals
from runner.inference.engine import EngineError, EngineRun, EngineTimeoutError, Sampling
from runner.inference.vllm.compat import FrontEnd, engine_dead_error
from runner.inference.vllm.iteration_log import IterationLog
from runner.inference.vllm.opening import engine_environment, open_model
from runner.inference.vllm.paced.pace import HOLD, RELEASE, Pace
from runner.inference.vllm.processes import EngineProcesses, OutputLog, watch
from runner.inference.vllm.request_loop import RequestLoop
from runner.inference.vllm.shapes import read_shape
from runner.physics.shape import ModelShape, get_shape
from runner.spec.load import ClosedLoop
from runner.spec.request import Request

_CLOSE_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 60.0
_HANG_GRACE_S = 60.0
"""How long after its deadline a run may still wait for the step in progress before the engine counts as hung."""


class VllmEngine:
    """One model in one vLLM engine, whose core runs in a process of its own; implements `Engine`.

    Args:
        model: Hugging Face id, a local folder, or shapes/NAME (that shape with random weights and no tokenizer).
        revision: of the model and its tokenizer on Hugging Face; None for the default branch.
        engine_args: vLLM's engine arguments, passed as they are. Prefix caching is off unless they say otherwise.
        seed: of vLLM itself, random weights included.
        load_timeout_s: seconds until an engine that is not up counts as failed; None for no limit.
        request_limit_s: seconds after which a request in flight is withdrawn and comes back with an error.
        pace: the simulated GPU that sets the pace, on the CPU only; None runs as fast as the hardware does.

    Raises:
        EngineError: the engine did not come up. The message quotes the end of what it printed.
        EngineTimeoutError: it did not come up in time. In both cases its processes have been ended.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        engine_args: Mapping[str, object] | None = None,
        seed: int = 0,
        load_timeout_s: float | None = None,
        request_limit_s: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._processes = EngineProcesses()
        self._output = OutputLog()
        self._is_paced = pace is not None
        self._request_limit_s = request_limit_s
        self._dead: str | None = None
        self._opened: FrontEnd | None = None
        try:
            with (
                watch(self._processes, limit_s=load_timeout_s) as out_of_time,
                self._output.capture(),
                engine_environment(pace),
            ):
                self._opened = open_model(model, revision=revision, engine_args=engine_args or {}, seed=seed, pace=pace)
                self._processes.find()
        except BaseException as error:
            reason = self._explain(f"vLLM could not load {model}: {error}")
            self.close()
            if out_of_time.is_set():
                reason = f"{model} was not loaded within {load_timeout_s:g} s; raise the time limit of loading"
                raise EngineTimeoutError(reason) from error
            if isinstance(error, EngineError) or not isinstance(error, Exception):
                raise
            raise EngineError(reason) from error
        self._log = IterationLog(self._front_end)
        self._shape = get_shape(pace.modelled_shape) if pace else read_shape(self._front_end.model_config)

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        return int(self._front_end.model_config.max_model_len)

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        return int(self._front_end.model_config.get_vocab_size())

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids, special tokens as the model's tokenizer adds them; None: no tokenizer."""
        return self._front_end.encode

    @property
    def shape(self) -> ModelShape | None:
        """The modelled shape if a simulated GPU sets the pace, else the model's; None if that has none (experts)."""
        return self._shape

    @property
    def process_ids(self) -> list[int]:
        """Ids of the engine's processes that run."""
        return self._processes.ids

    def run(
        self,
        requests: Iterator[Request],
        load: ClosedLoop | Arrivals,
        sampling: Sampling,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_edge: Callable[[], None] | None = None,
    ) -> EngineRun:
        """Hand in requests as the load says; see `Engine.run`.

        A request that vLLM refuses comes back with its error. An interrupt withdraws what is in flight and leaves the
        engine usable.

        Raises:
            EngineError: the engine has died.
            EngineTimeoutError: its step in progress did not end within a minute of the deadline; it has been killed.
        """
        lost_s: float | None = None
        with self._talking_to_core(None if deadline_s is None else deadline_s + _HANG_GRACE_S) as front_end:
            loop = RequestLoop(
                front_end,
                self._log,
                sampling,
                detokenize=self.encode is not None,
                request_limit_s=self._request_limit_s,
                hand_in_together=self._hold_core if self._is_paced else nullcontext,
            )
            try:
                if self._is_paced:
                    front_end.call_workers("start_pace_of_arrivals" if isinstance(load, Arrivals) else "start_pace")
                self._log.clear()
                start_ns = time.time_ns()
                offset_ns = start_ns - time.monotonic_ns()
                if isinstance(load, Arrivals):
                    loop.run_arrivals(
                        requests,
                        load,
                        start_ns=start_ns - offset_ns,
                        deadline_s=deadline_s,
                        on_progress=on_progress,
                        on_edge=on_edge,
                    )
                else:
                    loop.run(requests, load, deadline_s=deadline_s, on_progress=on_progress)
                end_ns = time.monotonic_ns() + offset_ns
                if self._is_paced:
                    [lost_s] = front_end.call_workers("read_pace_lost_s")
            except BaseException:
                loop.abort("interrupted")
                raise
        return EngineRun(
            start_ns=start_ns,
            end_ns=end_ns,
            completions=loop.completions(offset_ns),
            steps=[step for step in self._log.steps(offset_ns) if step.time_ns >= start_ns],
            pace_lost_s=lost_s,
        )

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes; False if the engine refused, which it does while requests hold blocks."""
        with self._talking_to_core(_ANSWER_TIMEOUT_S) as front_end:
            return front_end.reset_prefix_cache()

    def close(self) -> None:
        """End the engine, wait until its processes are gone and free what it held here. May be called twice."""
        self._processes.find()
        if self._opened is not None:
            # A dead core cannot be asked to stop; its processes are ended below.
            with suppress(Exception), self._output.capture():
                self._opened.shut_down(_CLOSE_TIMEOUT_S)
            self._opened = None
        self._dead = self._dead or "the engine has been closed; open it anew"
        self._processes.end(_CLOSE_TIMEOUT_S)
        self._output.remove()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @property
    def _front_end(self) -> FrontEnd:
        if self._opened is None:
            raise EngineError(self._dead)
        return self._opened

    @contextmanager
    def _talking_to_core(self, limit_s: float | None) -> Iterator[FrontEnd]:
        """Turn the death of the core, and its silence beyond a limit, into an `EngineError` for good."""
        if self._dead is not None:
            raise EngineError(self._dead)
        front_end = self._front_end
        with watch(self._processes, limit_s=limit_s, on_death=front_end.raise_dead) as out_of_time:
            try:
                yield front_end
            except engine_dead_error() as error:
                if out_of_time.is_set():
                    self._dead = f"the vLLM engine did not answer for {limit_s:g} s and was killed; open it anew"
                    raise EngineTimeoutError(self._dead) from error
                self._dead = self._explain("the vLLM engine died; open it anew")
                raise EngineError(self._dead) from error

    @contextmanager
    def _hold_core(self) -> Iterator[None]:
        """Let the paced engine's core see the requests of a block at once; see `PacedScheduler`."""
        self._front_end.send_mark(HOLD)
        try:
            yield
        finally:
            self._front_end.send_mark(RELEASE)

    def _explain(self, what: str) -> str:
        tail = self._output.tail()
        return f"{what}\nThe engine's last lines:\n{tail}" if tail else what
