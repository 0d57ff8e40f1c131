"""The work of a trial: its requests and their tokens.

A `Measurement` enters, `Work` leaves. Next: times, costs, phases and verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from runner.analysis.window.token_times import count_tokens
from runner.results.measurement import Measurement
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The work columns of `tables.TRIALS`. Tokens are those of requests that did not fail."""

    num_requests: int
    num_failed_requests: int
    num_truncated_requests: int
    num_prompt_tokens: int
    num_cached_tokens: int | None
    """None where the engine does not tell it for each request."""
    num_output_tokens: int

    @property
    def num_sound_requests(self) -> int:
        """Requests that did not fail."""
        return self.num_requests - self.num_failed_requests

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens that were computed. Those answered from the prefix cache were not."""
        return self.num_prompt_tokens - (self.num_cached_tokens or 0)

    @property
    def num_decode_tokens(self) -> int:
        """Output tokens that decoding made. Prefill makes the first token of each request."""
        return self.num_output_tokens - self.num_sound_requests


def select_sound(completions: Sequence[Completion]) -> list[Completion]:
    """Return the completions of the requests that did not fail."""
    return [completion for completion in completions if completion.error is None]


def count_work(measurement: Measurement) -> Work:
    """Count the requests of a window and their tokens.

    In an open loop requests and prompts count if they arrived in the window, and output tokens if they came in it.
    """
    completions = measurement.counted
    sound = select_sound(completions)
    cached = [completion.num_cached_tokens for completion in sound if completion.num_cached_tokens is not None]
    return Work(
        num_requests=len(completions),
        num_failed_requests=len(completions) - len(sound),
        num_truncated_requests=sum(completion.truncated for completion in completions),
        num_prompt_tokens=sum(completion.num_prompt_tokens for completion in sound),
        num_cached_tokens=sum(cached) if len(cached) == len(sound) else None,
        num_output_tokens=sum(completion.num_output_tokens for completion in sound)
        if isinstance(measurement.identity.load, ClosedLoop)
        else count_tokens(select_sound(measurement.completions), measurement.start_ns, measurement.end_ns),
    )


def read_work(row: Mapping[str, Any]) -> Work:
    """Return the work of a row of `tables.TRIALS` whose trial ended well."""
    return Work(**{column.name: row[column.name] for column in fields(Work)})
