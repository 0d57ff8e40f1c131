"""How a simulated GPU paces a real engine: what the worker is told, what a step holds, and when it is due.

Nothing here imports vLLM. `worker` puts it between vLLM's scheduler and vLLM's CPU worker.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from runner.inference.vllm.core_compat import SchedulerOutput
from runner.physics.shape import StepWork

MAX_LAG_NS = 100_000_000
"""How far real steps may trail the GPU's and catch up: room for the host's hiccups, too little to show."""
HOLD, RELEASE = "sweep:hold", "sweep:release"
"""The marks that the front end sends before and after it hands in requests; see `PacedScheduler`."""

_CONFIG_KEY = "sweep_pace"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """The simulated GPU that sets the pace, and the modelled shape whose steps it times."""

    gpu_model: str
    """A name that `physics.gpu_model.load_gpu_model` knows."""
    modelled_shape: str
    """A name that `physics.shape.get_shape` knows. Its steps must last longer than the engine's real ones."""
    state_dir: Path
    """The GPU's `GpuState` folder. The worker reads the operating point there and logs the GPU's activity there."""

    def engine_args(self) -> dict[str, object]:
        """Return the vLLM engine arguments that put the paced worker and scheduler in place."""
        told = {
            "gpu_model": self.gpu_model,
            "modelled_shape": self.modelled_shape,
            "state_dir": str(self.state_dir),
        }
        return {
            "worker_cls": "runner.inference.vllm.paced.worker.PacedWorker",
            "scheduler_cls": "runner.inference.vllm.paced.scheduler.PacedScheduler",
            "additional_config": {_CONFIG_KEY: told},
            "async_scheduling": False,  # a step must end before the next one is scheduled
        }

    @classmethod
    def from_additional_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the pace that `engine_args` told the engine."""
        told = config[_CONFIG_KEY]
        return cls(
            gpu_model=told["gpu_model"],
            modelled_shape=told["modelled_shape"],
            state_dir=Path(told["state_dir"]),
        )


class WorkCounter:
    """Turns vLLM's `SchedulerOutput`s into `StepWork`. It remembers the prompt of each unfinished request."""

    def __init__(self) -> None:
        self._prompts: dict[str, tuple[int, bool]] = {}
        """Request id to prompt length, and whether prompt log-probabilities are wanted."""

    @property
    def is_empty(self) -> bool:
        """Whether no request is known to be unfinished."""
        return not self._prompts

    def forget(self, request_ids: Iterable[str]) -> None:
        """Forget requests that have ended."""
        for request_id in request_ids:
            self._prompts.pop(request_id, None)

    def count(self, scheduler_output: SchedulerOutput) -> StepWork:
        """Return the work of a step. Remembers the requests that are new in it; forgets those that ended before it."""
        self.forget(scheduler_output.finished_req_ids)
        num_computed_tokens = {}
        for new in scheduler_output.scheduled_new_reqs:
            params = new.sampling_params
            wants_logprobs = params is not None and params.prompt_logprobs is not None
            self._prompts[new.req_id] = (len(new.prompt_token_ids), wants_logprobs)
            num_computed_tokens[new.req_id] = new.num_computed_tokens
        cached = scheduler_output.scheduled_cached_reqs
        num_computed_tokens.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))

        num_prefill = num_decode = num_attended = num_kv = num_logit_rows = 0
        for request_id, num_tokens in scheduler_output.num_scheduled_tokens.items():
            before = num_computed_tokens[request_id]
            num_prompt_tokens, wants_logprobs = self._prompts[request_id]
            if before >= num_prompt_tokens and num_tokens == 1:
                num_decode += 1
            else:  # a chunk of a prompt, or what a preempted request computes again
                num_prefill += num_tokens
            num_attended += num_tokens * before + num_tokens * (num_tokens + 1) // 2
            num_kv += before
            num_logit_rows += num_tokens if wants_logprobs and before < num_prompt_tokens else 1
        return StepWork(
            num_prefill_tokens=num_prefill,
            num_decode_tokens=num_decode,
            num_attended_tokens=num_attended,
            num_kv_tokens=num_kv,
            num_logit_rows=num_logit_rows,
        )


class StepSchedule:
    """When the GPU's steps of one run begin and end, on the host's monotonic clock.

    A step begins when the one before it was due, not when the host came to it. The modelled step includes what a host
    does between two steps, so the real host's milliseconds must not add up. If the host trails by more than
    `MAX_LAG_NS`, the schedule starts afresh and the lost time is counted.

    Where requests arrive at a rate, a GPU that has nothing to do waits. A step after such a wait begins when it really
    begins, and no time is lost.

    Args:
        waits_for_arrivals: whether requests arrive at a rate.
    """

    def __init__(self, *, waits_for_arrivals: bool = False) -> None:
        self._waits_for_arrivals = waits_for_arrivals
        self._due_ns: int | None = None
        self._lag_ns = 0
        self._lost_ns = 0

    @property
    def lost_s(self) -> float:
        """Seconds by which real steps outlasted the GPU's and that were not caught up."""
        return (self._lost_ns + self._lag_ns) / 1e9

    def begin(self, now_ns: int, *, is_first_work: bool = False) -> int:
        """Return when a step that really begins now begins on the GPU: now only if the schedule starts with it.

        Args:
            is_first_work: whether all requests of the step are new, so that the GPU had nothing to do before.
        """
        if self._due_ns is None:
            return now_ns
        if self._waits_for_arrivals and is_first_work:
            return max(now_ns, self._due_ns)
        gap_ns = now_ns - self._due_ns
        if gap_ns <= MAX_LAG_NS:
            return self._due_ns
        self._lost_ns += gap_ns
        return now_ns

    def end(self, due_ns: int, now_ns: int) -> float:
        """Take note of a step's end on the GPU and in reality; returns the seconds until the GPU's."""
        self._due_ns = due_ns
        self._lag_ns = max(now_ns - due_ns, 0)
        return max(due_ns - now_ns, 0) / 1e9
