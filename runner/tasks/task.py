"""What a task is: prompts in, scores out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.spec.request import Completion, Request, RequestKind


class TaskError(Exception):
    """A task that does not exist, cannot be read, or does not fit the model. The message says what to do next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One document as the model sees it: the id and the text of its prompt (None for synthetic tokens)."""

    sample_id: str
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A task's score by its one named metric; `value` is None, with the reason, where it cannot be had."""

    metric: str | None
    higher_is_better: bool | None
    value: float | None
    stderr: float | None
    reason: str | None = None
    per_sample: Mapping[str, float] = field(default_factory=dict)
    """sample_id to that sample's score, where the metric is a mean over samples."""


class Task(Protocol):
    """One workload. The same object in the worker (requests) and in the aggregator (scores)."""

    @property
    def name(self) -> str:
        """As in the sweep file."""
        ...

    @property
    def request_kind(self) -> RequestKind:
        """generate, or loglikelihood (prefill only)."""
        ...

    @property
    def chance(self) -> float | None:
        """What guessing scores by the task's metric; None where that is not known."""
        ...

    def samples(self) -> list[Sample]:
        """Return the documents, in a fixed order."""
        ...

    def requests(
        self, encode: Callable[[str], list[int]] | None, *, max_model_len: int, vocab_size: int
    ) -> list[Request]:
        """Return one round of requests, in a fixed order, cut from the left to fit the model.

        Raises: TaskError: the task needs a tokenizer and the model has none.
        """
        ...

    def score(self, completions: Sequence[Completion]) -> Quality:
        """Score one round of completions (any order). A document with a failed request is left out."""
        ...
