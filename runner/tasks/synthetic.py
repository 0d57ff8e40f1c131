"""A task of fixed lengths: prompts of random tokens, answers of a fixed number of tokens, and no score."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.spec.request import Completion, Request, RequestKind
from runner.tasks.task import Quality, Sample, TaskError

_NUM_RESERVED_IDS = 16
"""How many of the lowest ids are left out: in most vocabularies padding, begin and end of text."""


@dataclass(frozen=True, kw_only=True)
class SyntheticTask:
    """Prompts of random ids, each answered by exactly as many tokens as asked for.

    Lengths are numbers for all requests, or [num_requests] numbers, one for each.
    """

    num_prompt_tokens: int | Sequence[int]
    num_output_tokens: int | Sequence[int]
    num_requests: int
    seed: int
    name: str = "synthetic"
    request_kind: RequestKind = "generate"
    chance: float | None = None

    def samples(self) -> list[Sample]:
        """Return the ids of the prompts, which have no text."""
        return [Sample(sample_id=f"{self.name}/{i}", text=None) for i in range(self.num_requests)]

    def requests(
        self, encode: Callable[[str], list[int]] | None, *, max_model_len: int, vocab_size: int
    ) -> list[Request]:
        """Return the requests. Their first tokens differ, so that they share no prefix, while the vocabulary lasts.

        Raises: TaskError: prompt and output do not fit the model. Prompts are not cut: their lengths are the task.
        """
        lengths = list(zip(_spread(self.num_prompt_tokens, self), _spread(self.num_output_tokens, self), strict=True))
        num_prompt_tokens, num_output_tokens = max(lengths, key=sum)
        if num_prompt_tokens + num_output_tokens > max_model_len:
            raise TaskError(
                f"{self.name}: {num_prompt_tokens} prompt and {num_output_tokens} output tokens are more "
                f"than the model's {max_model_len}: lower them, or raise max_model_len in the model's engine settings"
            )
        ids = range(min(_NUM_RESERVED_IDS, vocab_size - 1), vocab_size)
        rng = random.Random(f"{self.name}-{self.seed}")
        first_ids = rng.sample(ids, len(ids))
        return [
            Request(
                request_id=sample.sample_id,
                sample_id=sample.sample_id,
                kind="generate",
                prompt_token_ids=(first_ids[i % len(ids)], *rng.choices(ids, k=num_prompt_tokens - 1)),
                num_context_tokens=num_prompt_tokens,
                max_output_tokens=num_output_tokens,
                ignore_eos=True,
            )
            for i, (sample, (num_prompt_tokens, num_output_tokens)) in enumerate(
                zip(self.samples(), lengths, strict=True)
            )
        ]

    def score(self, completions: Sequence[Completion]) -> Quality:
        """Return a quality without a score, and the reason."""
        return Quality(
            metric=None,
            higher_is_better=None,
            value=None,
            stderr=None,
            reason="random prompts have no right answer",
        )


def _spread(length: int | Sequence[int], task: SyntheticTask) -> Sequence[int]:
    """Return [num_requests] lengths."""
    return [length] * task.num_requests if isinstance(length, int) else length
