"""A stand-in for vLLM's `LLMEngine`, with the members that `compat.FrontEnd` uses. It answers without vLLM."""

import queue
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any


class DeadError(Exception):
    """In place of vLLM's `EngineDeadError`."""


def make_output(
    request_id: str,
    *,
    finish_reason: str = "length",
    token_ids: Sequence[int] = (7, 8),
    text: str = "",
    metrics: tuple[float, float, float] | None = (1.0, 2.0, 3.0),
    prompt_logprobs: object = None,
    finished: bool = True,
) -> Any:
    """A `RequestOutput`. Metrics are the times of the first step, the first token and the last, in seconds."""
    times = dict(zip(("scheduled_ts", "first_token_ts", "last_token_ts"), metrics or (), strict=False))
    return SimpleNamespace(
        request_id=request_id,
        finished=finished,
        outputs=[SimpleNamespace(finish_reason=finish_reason, token_ids=list(token_ids), text=text)],
        metrics=SimpleNamespace(**times) if metrics else None,
        num_cached_tokens=0,
        prompt_logprobs=prompt_logprobs,
    )


class StandInCore:
    """In place of vLLM's `SyncMPClient`."""

    def __init__(self) -> None:
        self.outputs_queue: queue.Queue[object] = queue.Queue()
        self.utility_results: dict[int, Future[object]] = {}
        self.aborted: list[list[str]] = []
        self.shut_down_s: float | None = None

    def get_output(self) -> Any:
        return self.outputs_queue.get_nowait()

    def abort_requests(self, request_ids: list[str]) -> None:
        self.aborted.append(request_ids)

    def shutdown(self, *, timeout: float) -> None:
        self.shut_down_s = timeout


class StandInEngine:
    """Ends the oldest request in flight in each step. A request whose prompt is empty is refused."""

    def __init__(self) -> None:
        self.engine_core = StandInCore()
        self.logger_manager: object = "a logger"
        self.model_config = SimpleNamespace(
            max_model_len=64,
            get_vocab_size=lambda: 100,
            hf_text_config=SimpleNamespace(to_dict=dict),
            dtype="float32",
            model="none",
        )
        self.tokenizer = None
        self.waiting: list[str] = []
        self.most_in_flight = 0
        self.withdrawn: list[str] = []
        self.num_questions = 0

    def add_request(self, request_id: str, prompt: Sequence[int], params: object) -> None:
        if not prompt:
            raise ValueError("the prompt is empty")
        self.waiting.append(request_id)
        self.most_in_flight = max(self.most_in_flight, len(self.waiting))

    def abort_request(self, request_ids: list[str]) -> None:
        self.withdrawn += request_ids
        self.waiting = [request_id for request_id in self.waiting if request_id not in request_ids]

    def step(self) -> list[Any]:
        return [make_output(self.waiting.pop(0))] if self.waiting else []

    def is_sleeping(self) -> bool:
        self.num_questions += 1
        return False

    def reset_prefix_cache(self) -> bool:
        return True

    def collective_rpc(self, method: str) -> list[Any]:
        return [method]
