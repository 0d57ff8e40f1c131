"""vLLM as an engine: real tokens, from a GPU or from the CPU.

Importing this module imports nothing heavy; opening an engine imports vLLM. Supports vLLM 0.26 to 0.32. While an engine
is being opened, defaults stand in this process's environment (see `engine_processes`): its processes inherit them.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from runner.inference.engine import EngineError, EngineRun, EngineTimeoutError, Sampling
from runner.inference.paced.pace import HOLD, RELEASE, Pace
from runner.inference.vllm.iteration_log import IterationLog
from runner.inference.vllm.processes import (
    CPU_ENVIRONMENT,
    ENVIRONMENT,
    PACED_ENVIRONMENT,
    EngineProcesses,
    OutputLog,
    default_environment,
    watch,
)
from runner.inference.vllm.request_loop import RequestLoop
from runner.physics.shape import SHAPES_DIR, ModelShape, get_shape, shape_from_config, shape_names
from runner.spec.load import Load
from runner.spec.request import Request

SHAPES_PREFIX = "shapes/"
_CLOSE_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 60.0
_HANG_GRACE_S = 60.0
"""How long after its deadline a run may still wait for the step in progress before the engine counts as hung."""


class VllmEngine:
    """One model in one vLLM engine, whose core runs in a process of its own.

    Args:
        model: Hugging Face id, a local folder, or shapes/NAME (that shape with random weights and no tokenizer).
        revision: of the model and its tokenizer on Hugging Face; None for the default branch.
        engine_args: vLLM's engine arguments, passed as they are. Where they say nothing, prefix caching is off.
        seed: of vLLM itself, random weights included.
        load_timeout_s: seconds until an engine that is not up counts as failed; None waits for ever.
        request_limit_s: seconds after which a request in flight is withdrawn and comes back with an error.
        pace: the simulated GPU that sets the pace, on the CPU only; None runs as fast as the hardware does.

    Raises:
        EngineError: the engine did not come up; the message quotes the end of what it printed.
        EngineTimeoutError: it did not come up in time. Its processes have been ended in both cases.
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
        self._llm_engine: Any = None
        try:
            with (
                watch(self._processes, limit_s=load_timeout_s) as out_of_time,
                self._output.capture(),
                default_environment(ENVIRONMENT, PACED_ENVIRONMENT if pace else {}),
            ):
                self._llm_engine = _open(model, revision, engine_args or {}, seed, pace)
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
        self._log = IterationLog(self._llm_engine)
        self._shape = get_shape(pace.twin) if pace else read_shape(self._llm_engine.model_config)

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        return int(self._llm_engine.model_config.max_model_len)

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        return int(self._llm_engine.model_config.get_vocab_size())

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids, special tokens as the model's tokenizer adds them; None: no tokenizer."""
        tokenizer = self._llm_engine.tokenizer
        return None if tokenizer is None else tokenizer.encode

    @property
    def shape(self) -> ModelShape | None:
        """The model's shape, or its twin's where a simulated GPU sets the pace; None for what has none (experts)."""
        return self._shape

    @property
    def process_ids(self) -> list[int]:
        """Ids of the engine's processes that run."""
        return self._processes.ids

    def run(
        self,
        requests: Iterator[Request],
        load: Load,
        sampling: Sampling,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EngineRun:
        """Hand in requests as the load says until the iterator ends, then drain; see `Engine.run`.

        A request that vLLM refuses comes back with its error. An interrupt withdraws what is in flight and leaves the
        engine usable.

        Raises:
            EngineError: the engine has died.
            EngineTimeoutError: its step in progress did not end within a minute of the deadline; it has been killed.
        """
        lost_s: float | None = None
        with self._speaking_to_core(None if deadline_s is None else deadline_s + _HANG_GRACE_S):
            loop = RequestLoop(
                self._llm_engine,
                self._log,
                sampling,
                detokenize=self.encode is not None,
                request_limit_s=self._request_limit_s,
                admission=self._admit_together if self._is_paced else nullcontext,
            )
            try:
                if self._is_paced:
                    self._llm_engine.collective_rpc("start_pace")
                self._log.clear()
                start_ns = time.time_ns()
                offset_ns = start_ns - time.monotonic_ns()
                loop.run(requests, load, deadline_s=deadline_s, on_progress=on_progress)
                end_ns = time.monotonic_ns() + offset_ns
                if self._is_paced:
                    [lost_s] = self._llm_engine.collective_rpc("read_pace_lost_s")
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
        with self._speaking_to_core(_ANSWER_TIMEOUT_S):
            return bool(self._llm_engine.reset_prefix_cache())

    def close(self) -> None:
        """End the engine, wait until its processes are gone and free what it held here. May be called twice."""
        self._processes.find()
        if self._llm_engine is not None:
            # A dead core cannot be asked to stop; its processes are ended below.
            with suppress(Exception), self._output.capture():
                self._llm_engine.engine_core.shutdown(timeout=_CLOSE_TIMEOUT_S)
            self._llm_engine = None
        self._dead = self._dead or "the engine has been closed; open it anew"
        self._processes.end(_CLOSE_TIMEOUT_S)
        self._output.remove()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @contextmanager
    def _speaking_to_core(self, limit_s: float | None) -> Iterator[None]:
        """Turn the death of the core, and its silence beyond a limit, into an `EngineError` for good."""
        if self._dead is not None:
            raise EngineError(self._dead)
        from vllm.v1.engine.exceptions import EngineDeadError

        core = self._llm_engine.engine_core

        def wake() -> None:
            core.outputs_queue.put(EngineDeadError())
            for answer in list(core.utility_results.values()):
                answer.set_exception(EngineDeadError())

        with watch(self._processes, limit_s=limit_s, on_death=wake) as out_of_time:
            try:
                yield
            except EngineDeadError as error:
                if out_of_time.is_set():
                    self._dead = f"the vLLM engine did not answer for {limit_s:g} s and was killed; open it anew"
                    raise EngineTimeoutError(self._dead) from error
                self._dead = self._explain("the vLLM engine died; open it anew")
                raise EngineError(self._dead) from error

    @contextmanager
    def _admit_together(self) -> Iterator[None]:
        """Let the paced engine see the requests of a block at once; see `PacedScheduler`."""
        self._llm_engine.engine_core.abort_requests([HOLD])
        try:
            yield
        finally:
            self._llm_engine.engine_core.abort_requests([RELEASE])

    def _explain(self, what: str) -> str:
        tail = self._output.tail()
        return f"{what}\nThe engine's last lines:\n{tail}" if tail else what


def _open(model: str, revision: str | None, engine_args: Mapping[str, object], seed: int, pace: Pace | None) -> Any:
    """Open a vLLM `LLMEngine` with its core in a child process."""
    from vllm import LLM, EngineArgs
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    arguments: dict[str, object] = {
        "model": model,
        "revision": revision,
        "tokenizer_revision": revision,
        "seed": seed,
        "enable_prefix_caching": False,
        "enforce_eager": on_cpu,
        "disable_log_stats": False,  # the times of each request come with them
        "enable_logging_iteration_details": True,
        "use_tqdm_on_load": False,
    }
    if model.startswith(SHAPES_PREFIX):
        arguments |= {"model": str(_shape_dir(model)), "load_format": "dummy", "skip_tokenizer_init": True}
    if pace is not None:
        if not on_cpu:
            raise EngineError("a simulated GPU can pace vLLM on the CPU only; install the cpu extra")
        arguments |= pace.engine_args()
    known = set(EngineArgs.__dataclass_fields__)
    arguments = {name: value for name, value in arguments.items() if name in known} | dict(engine_args)
    with default_environment(CPU_ENVIRONMENT if on_cpu else {}):
        llm_engine = LLM(**arguments).llm_engine
    llm_engine.logger_manager = None  # it would log and count every step beside the loop; nobody reads it
    return llm_engine


def read_shape(model_config: Any) -> ModelShape | None:
    """Return the shape of a model that vLLM has opened, in the precision in which it runs.

    Args:
        model_config: vLLM's `ModelConfig`.
    Returns: None where the configuration lacks a size, or the model is a mixture of experts.
    """
    config = {**model_config.hf_text_config.to_dict(), "torch_dtype": str(model_config.dtype)}
    try:
        return shape_from_config(config, str(model_config.model))
    except (TypeError, ValueError):
        return None


def _shape_dir(model: str) -> Path:
    name = model.removeprefix(SHAPES_PREFIX)
    if name not in shape_names():
        known = ", ".join(f"{SHAPES_PREFIX}{known}" for known in shape_names())
        raise EngineError(f"there is no {model}; there are {known}")
    return SHAPES_DIR / name
