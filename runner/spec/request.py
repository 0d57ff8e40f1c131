"""One request to an engine, and what came back. Tasks, engines and results share these records.

Tasks make `Request`s, an engine answers each with a `Completion`, and tasks score the completions.
"""

from dataclasses import dataclass
from typing import Literal

RequestKind = Literal["generate", "loglikelihood"]
UNFINISHED = "not finished when the requests of the window were no longer followed; aborted"
"""Why a request of an open loop that was still in flight when the run ended has no output."""
PhaseRole = Literal["one_token", "half_length"]
"""How much of its task's fixed output length a paired trial generates, for the same prompts."""


def paired_length(num_output_tokens: int, role: PhaseRole | None) -> int:
    """Return how many tokens a request of a paired trial generates. Without a role it generates all of them."""
    if role is None:
        return num_output_tokens
    return 1 if role == "one_token" else num_output_tokens // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt for the engine.

    generate: continue `prompt_token_ids` until a stop or `max_output_tokens`.
    loglikelihood: score the tokens of `prompt_token_ids` from `num_context_tokens` on, and generate nothing. vLLM
    generates one token even so, which is not counted.
    """

    request_id: str
    """Unique within the task, e.g. "boolq/17/1": task, document, choice."""
    sample_id: str
    """The document that it is made from. Several requests may share one."""
    kind: RequestKind
    prompt_token_ids: tuple[int, ...]
    num_context_tokens: int
    """Tokens before the scored continuation. For `generate` it is the whole prompt."""
    max_output_tokens: int
    """The most tokens to generate; 0 for `loglikelihood`."""
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    """Generate exactly `max_output_tokens`, so that all clocks are compared on equal work."""
    truncated: bool = False
    """Whether the prompt was longer than the model's context and was cut from the left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What an engine returned for one request. Times are ns since the epoch; None where it did not get so far."""

    request_id: str
    """The request's own id, e.g. "boolq/17/1"."""
    sample_id: str
    kind: RequestKind
    round: int = 0
    """Counts from 0 how often the window has come to this request."""
    num_prompt_tokens: int
    num_cached_tokens: int | None = None
    num_output_tokens: int = 0
    queued_ns: int | None = None
    """When the request was handed to the engine. In an open loop, when it arrived."""
    arrival_lateness_s: float | None = None
    """How long after its arrival the request was handed to the engine; None in a closed loop."""
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    text: str | None = None
    """None where the model has no tokenizer, and for `loglikelihood`."""
    output_token_ids: tuple[int, ...] = ()
    loglikelihood: float | None = None
    is_greedy: bool | None = None
    """Whether greedy decoding would have generated the scored continuation."""
    truncated: bool = False
    in_window: bool = True
    """Whether the request arrived in the window. In an open loop others arrive before and after it."""
    error: str | None = None
    """Why the request failed; None if it did not fail."""

    @property
    def row_id(self) -> str:
        """The id of its row in `tables.REQUESTS`: one for each round."""
        return f"{self.request_id}#{self.round}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The work of one engine step. `time_ns` (since the epoch) is when its outputs left the engine core."""

    time_ns: int
    num_prefill_tokens: int
    num_decode_tokens: int
    num_running: int
