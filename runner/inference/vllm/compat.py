"""What is used of vLLM's front end beyond its public interface. A new release needs changes here and in `core_compat`.

The public interface is what `import vllm` names: LLM, EngineArgs, SamplingParams, ModelRegistry. The models in
`runner.inference.models` use the interface of vLLM's own models besides. Importing this module does not import vLLM.

The protocols have the names of vLLM's classes and list the members that are used. tests/inference/vllm/test_compat.py
checks them against the sources of vLLM 0.26 and 0.32.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from runner.inference.engine import EngineError

# What vLLM returns ---------------------------------------------------------------------------------------------------


class RequestStateStats(Protocol):
    """Times of one request, in seconds on the host's monotonic clock; 0 where it never came to that."""

    scheduled_ts: float
    first_token_ts: float
    last_token_ts: float


class FlatLogprobs(Protocol):
    """Log-probabilities of a prompt, as one flat list: an entry for each token but the first."""

    logprobs: list[float]
    ranks: list[int | None]


class CompletionOutput(Protocol):
    """The generated tokens of one request."""

    finish_reason: str | None
    token_ids: Sequence[int]
    text: str


class RequestOutput(Protocol):
    """What `FrontEnd.step` returns for a request."""

    request_id: str
    finished: bool
    outputs: list[CompletionOutput]
    metrics: RequestStateStats | None
    num_cached_tokens: int | None
    prompt_logprobs: FlatLogprobs | None


class SchedulerIterationDetails(Protocol):
    """The requests and tokens of one step; "ctx" is prefill."""

    num_ctx_tokens: int
    num_generation_tokens: int
    num_ctx_requests: int
    num_generation_requests: int
    is_dummy: bool


class SchedulerStats(Protocol):
    """The core's own count of a step. The details are None in a version that does not count them."""

    iteration_details: SchedulerIterationDetails | None


class EngineCoreOutputs(Protocol):
    """The core's answer to one step; the timestamp is in seconds on the host's monotonic clock."""

    outputs: Collection[object]
    scheduler_stats: SchedulerStats | None
    timestamp: float


class ModelConfig(Protocol):
    """The model, as vLLM has read it."""

    max_model_len: int
    hf_text_config: Any
    """Of transformers."""
    dtype: object
    model: str

    def get_vocab_size(self) -> int:
        """Return the number of token ids."""
        ...


class FrontEnd:
    """An open engine. It wraps the part in this process, which talks to the core in a process of its own.

    Every method raises vLLM's `EngineDeadError` (`engine_dead_error`) once the core is gone.

    Args:
        llm_engine: vLLM's `LLMEngine`.
    Raises: EngineError: the core runs in this process.
    """

    def __init__(self, llm_engine: Any) -> None:
        core = llm_engine.engine_core
        if not hasattr(core, "outputs_queue"):
            raise EngineError(
                "vLLM runs the engine's core in this process, where it cannot be watched: leave "
                "distributed_executor_backend out of the model's engine settings"
            )
        # vLLM would otherwise log and count every step, in the time of the loop.
        llm_engine.logger_manager = None
        self._llm_engine = llm_engine
        self._core = core
        self.step: Callable[[], list[RequestOutput]] = llm_engine.step
        """Wait for the next step; returns the outputs of the requests that it ends."""

    def step_until(self, deadline_s: float) -> list[RequestOutput]:
        """Wait for the next step, at most until a time; returns the outputs of the requests that it ends.

        `step` alone waits until a step ends. An open loop has to hand in the next request before that.

        Args:
            deadline_s: on the host's monotonic clock.
        """
        answers = self._core.outputs_queue
        with answers.not_empty:
            has_ended = answers.not_empty.wait_for(lambda: answers.queue, deadline_s - time.monotonic())
        return self.step() if has_ended else []

    @property
    def model_config(self) -> ModelConfig:
        """The model, as vLLM has read it."""
        return self._llm_engine.model_config  # type: ignore[no-any-return]

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids, special tokens included; None where the model has no tokenizer."""
        tokenizer = self._llm_engine.tokenizer
        return None if tokenizer is None else tokenizer.encode

    def add_request(self, request_id: str, prompt: object, params: object) -> None:
        """Hand in a request. Raises: errors of several kinds where vLLM refuses it."""
        self._llm_engine.add_request(request_id, prompt, params)

    def abort(self, request_ids: Sequence[str]) -> None:
        """Withdraw requests; no output comes of them."""
        self._llm_engine.abort_request(list(request_ids))

    def wait_for_core(self) -> None:
        """Return once the step in progress has ended."""
        self._llm_engine.is_sleeping()  # The core answers any question after its step.

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes; False if the engine refused, which it does while requests hold blocks."""
        return bool(self._llm_engine.reset_prefix_cache())

    def call_workers(self, method: str) -> list[Any]:
        """Call a method of each worker by name; returns [num_workers] answers."""
        return self._llm_engine.collective_rpc(method)  # type: ignore[no-any-return]

    def send_mark(self, mark: str) -> None:
        """Send the core's scheduler a mark, as the id of a request to abort: see `PacedScheduler`."""
        self._core.abort_requests([mark])

    def watch_outputs(self, on_outputs: Callable[[EngineCoreOutputs], None]) -> None:
        """Call `on_outputs` with each answer of the core from now on, before vLLM processes it."""
        fetch: Callable[[], EngineCoreOutputs] = self._core.get_output

        def get_output() -> EngineCoreOutputs:
            outputs = fetch()
            on_outputs(outputs)
            return outputs

        self._core.get_output = get_output

    def raise_dead(self) -> None:
        """Raise `EngineDeadError` in the thread that waits for the core. vLLM would wait for ever."""
        error = engine_dead_error()
        self._core.outputs_queue.put(error())
        for answer in list(self._core.utility_results.values()):
            if not answer.done():
                answer.set_exception(error())

    def shut_down(self, timeout_s: float) -> None:
        """Ask the core to end and wait for it."""
        self._core.shutdown(timeout=timeout_s)


def require_core_process() -> None:
    """Check the environment before vLLM reads it.

    Raises: EngineError: a variable makes vLLM run the core in this process, where it cannot be watched or killed.
    """
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    value = os.environ.get(name, "1").strip()
    if value.isdecimal() and not int(value):
        raise EngineError(
            f"{name} is {value}, but the engine's core must run in a process of its own: unset {name}, or set it to 1"
        )


def open_front_end(arguments: Mapping[str, object]) -> FrontEnd:
    """Open an engine.

    Args:
        arguments: of vLLM's `LLM`.
    Raises: EngineError: the core runs in this process. vLLM raises errors of many kinds if it cannot open the model.
    """
    from vllm import LLM

    return FrontEnd(LLM(**arguments).llm_engine)


def engine_argument_names() -> frozenset[str]:
    """Return the engine arguments that the installed version has."""
    from vllm import EngineArgs

    return frozenset(EngineArgs.__dataclass_fields__)


def is_on_cpu() -> bool:
    """Return whether the installed vLLM computes on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def engine_dead_error() -> type[Exception]:
    """Return the exception that vLLM raises once the core is gone."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return EngineDeadError  # type: ignore[no-any-return]


def make_prompt(token_ids: Sequence[int]) -> object:
    """Return a prompt of token ids, as `FrontEnd.add_request` takes it."""
    from vllm.inputs import tokens_input

    return tokens_input(list(token_ids))


def final_only() -> object:
    """Return the kind of output that comes once, when the request has ended."""
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY
