"""What is used of vLLM inside the core's process, beyond its public interface, by the paced worker and scheduler.

The protocols have the names of vLLM's classes and list the members that are used. tests/inference/vllm/test_compat.py
checks them against the sources of vLLM 0.26 and 0.32. Importing this module does not import vLLM.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol


class ParallelConfig(Protocol):
    """How many workers share the model."""

    world_size: int


class VllmConfig(Protocol):
    """The configuration that a worker is made with."""

    parallel_config: ParallelConfig
    additional_config: dict[str, Any]


class SamplingParams(Protocol):
    """How a request's tokens are drawn, and which log-probabilities it returns."""

    prompt_logprobs: int | None


class NewRequestData(Protocol):
    """A request in its first step."""

    req_id: str
    prompt_token_ids: Sequence[int]
    num_computed_tokens: int
    sampling_params: SamplingParams | None


class CachedRequestData(Protocol):
    """The requests of a step that were in an earlier one: lists of one length."""

    req_ids: list[str]
    num_computed_tokens: list[int]


class SchedulerOutput(Protocol):
    """The work of one step, by request."""

    finished_req_ids: Collection[str]
    scheduled_new_reqs: Sequence[NewRequestData]
    scheduled_cached_reqs: CachedRequestData
    num_scheduled_tokens: Mapping[str, int]
    total_num_scheduled_tokens: int


def cpu_worker_class() -> Any:
    """Return the class of vLLM's worker on the CPU, to derive from."""
    from vllm.v1.worker.cpu_worker import CPUWorker

    return CPUWorker


def scheduler_class() -> Any:
    """Return the class of vLLM's scheduler, to derive from."""
    from vllm.v1.core.sched.scheduler import Scheduler

    return Scheduler


def set_paused(scheduler: Any, *, is_paused: bool) -> None:
    """Pause a scheduler, so that it schedules nothing, or let it go on."""
    from vllm.v1.core.sched.interface import PauseState

    scheduler.set_pause_state(PauseState.PAUSED_ALL if is_paused else PauseState.UNPAUSED)
