"""What a server answered to one request, made into a `Completion` after the run.

A run only keeps the bytes that came, each with its time. They are read here, outside the window.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.spec.request import Completion, Request

Received = tuple[int, bytes]
"""Bytes of an answer, and when they came: ns on the host's monotonic clock."""
_DONE = b"[DONE]"


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request and what came back."""

    request: Request
    round: int
    queued_ns: int
    """When it was handed in, in ns on the host's monotonic clock."""
    arrived_ns: int | None = None
    """When it arrived, by the same clock; None in a closed loop, where a request arrives when it is handed in."""
    in_window: bool = True
    """Whether it arrived in the window."""
    received: list[Received] = field(default_factory=list)
    error: str | None = None


def read_events(received: Iterable[Received]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of a stream, each with the time at which its last byte came. What is no JSON object is left out.

    Source: server-sent events; OpenAI's streams hold one line `data: JSON` an event.
    """
    rest = b""
    for time_ns, data in received:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            event = _read_line(line)
            if event is not None:
                yield time_ns, event


def make_completion(exchange: Exchange, monotonic_offset_ns: int) -> Completion:
    """Return what became of a request. An answer that cannot be read is an error of that request.

    Args:
        monotonic_offset_ns: leads from the host's monotonic clock to the epoch.
    """
    request = exchange.request
    what: dict[str, Any] = {
        "request_id": request.request_id,
        "round": exchange.round,
        "sample_id": request.sample_id,
        "kind": request.kind,
        "num_prompt_tokens": len(request.prompt_token_ids),
        "truncated": request.truncated,
        "queued_ns": (exchange.arrived_ns or exchange.queued_ns) + monotonic_offset_ns,
        "in_window": exchange.in_window,
    }
    if exchange.arrived_ns is not None:
        what["arrival_lateness_s"] = (exchange.queued_ns - exchange.arrived_ns) * 1e-9
    if exchange.error is not None:
        return Completion(**what, error=exchange.error)
    read = _read_generation if request.kind == "generate" else _read_score
    try:
        return Completion(**what | read(request, exchange.received, monotonic_offset_ns))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Completion(**what, error=f"the answer cannot be read ({type(error).__name__}: {error})")


def _read_line(line: bytes) -> dict[str, Any] | None:
    name, _, data = line.strip().partition(b":")
    if name != b"data" or data.strip() == _DONE:
        return None
    try:
        event = json.loads(data)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _read_generation(request: Request, received: Sequence[Received], offset_ns: int) -> dict[str, Any]:
    texts: list[str] = []
    token_ids: list[int] = []
    times_ns: list[int] = []
    usage: dict[str, Any] | None = None
    for time_ns, event in read_events(received):
        if "error" in event:
            return {"error": f"the server broke off: {event['error']}"}
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            times_ns.append(time_ns)
            texts.append(choice.get("text") or "")
            token_ids += choice.get("token_ids") or ()
    if usage is None or not times_ns:
        return {"error": "the stream ended before its token counts came"}
    num_tokens = int(usage["completion_tokens"])
    ended_early = request.ignore_eos and not request.stop and num_tokens != request.max_output_tokens
    return {
        "num_prompt_tokens": int(usage["prompt_tokens"]),
        "num_cached_tokens": _read_cached(usage),
        "num_output_tokens": num_tokens,
        "first_token_ns": times_ns[0] + offset_ns,
        "last_token_ns": times_ns[-1] + offset_ns,
        "text": "".join(texts),
        "output_token_ids": tuple(token_ids) if len(token_ids) == num_tokens else (),
        # Then the work was not the work that was asked for.
        "error": f"{num_tokens} tokens came and not {request.max_output_tokens}: the server does not keep ignore_eos"
        if ended_early
        else None,
    }


def _read_score(request: Request, received: Sequence[Received], offset_ns: int) -> dict[str, Any]:
    content = json.loads(b"".join(data for _, data in received))
    usage, logprobs = content["usage"], content["choices"][0]["logprobs"]
    num_tokens = len(request.prompt_token_ids)
    if int(usage["prompt_tokens"]) != num_tokens:
        return {"error": f"the server counts {usage['prompt_tokens']} tokens in a prompt of {num_tokens}"}
    # The first token of a prompt has no log-probability.
    scored = slice(max(request.num_context_tokens, 1), num_tokens)
    own, top = logprobs["token_logprobs"][scored], logprobs["top_logprobs"][scored]
    if len(own) != scored.stop - scored.start or len(top) != len(own):
        return {"error": f"the server scored {len(own)} of {scored.stop - scored.start} tokens"}
    ended_ns = received[-1][0] + offset_ns
    return {
        "num_cached_tokens": _read_cached(usage),
        "first_token_ns": ended_ns,
        "last_token_ns": ended_ns,
        "loglikelihood": float(sum(own)),
        "is_greedy": all(value >= max(best.values()) for value, best in zip(own, top, strict=True)),
    }


def _read_cached(usage: dict[str, Any]) -> int | None:
    """Return how many prompt tokens came from a cache; None where the server does not tell, as most do not."""
    found = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return found if isinstance(found, int) else None
