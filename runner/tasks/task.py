"""The task that the rest of the program sees: it makes requests and scores completions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.spec.request import Completion, Request, RequestKind


class TaskError(Exception):
    """A task does not exist, cannot be read, or does not fit the model. The message says what to do next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One document as the model sees it: its id, and the text of its prompt (None for random tokens)."""

    sample_id: str
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A task's score by one named metric. If there is no score, `value` is None and `reason` says why."""

    metric: str | None
    higher_is_better: bool | None
    value: float | None
    stderr: float | None
    reason: str | None = None
    per_sample: Mapping[str, float] = field(default_factory=dict)
    """Score by sample_id; empty unless the metric is a mean over samples."""


class Task(Protocol):
    """Documents, their prompts, and their scoring. The worker asks it for requests, the aggregator for scores."""

    @property
    def name(self) -> str:
        """Its name in the sweep file."""
        ...

    @property
    def request_kind(self) -> RequestKind:
        """Whether its requests generate, or only score a continuation."""
        ...

    @property
    def chance(self) -> float | None:
        """The score of a guess by the task's metric; None if it is not known."""
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
        """Return the score of one round of completions, in any order. Documents with a failed request are left out."""
        ...
