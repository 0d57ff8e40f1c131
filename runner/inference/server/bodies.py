"""The JSON bodies of requests to /v1/completions: from a `Request` to what the server reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.inference.engine import Sampling
from runner.spec.request import Request

COMPLETIONS = "/v1/completions"
NEUTRAL_SAMPLING: Mapping[str, Mapping[str, Any]] = {
    # Both take defaults from the model's generation_config.json, which our own engine does not read.
    "vllm": {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    # Its own defaults are top_k 40 and min_p 0.05. It reuses the prompt of the request before unless told not to.
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "cache_prompt": False},
}
"""By `owned_by`: fields beyond OpenAI's that switch off what the sweep did not ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyMaker:
    """Makes the bodies for one model of one server. It crosses to the client's process, so it holds no tokenizer."""

    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def generate(self, request: Request, sampling: Sampling, prompt: list[int] | str) -> dict[str, Any]:
        """Return the body of a streamed generation."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": request.max_output_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        if sampling.temperature > 0:
            body["seed"] = sampling.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.ignore_eos:
            body["ignore_eos"] = True
        return body

    def score(self, prompt: list[int]) -> dict[str, Any]:
        """Return the body that asks for the log-probabilities of a prompt's tokens.

        One token is generated: several servers refuse to generate none.
        """
        return {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
            **self.extra,
        }


Decode = Callable[[list[int]], str]
