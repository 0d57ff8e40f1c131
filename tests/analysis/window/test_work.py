"""The work of a trial, counted from hand-made requests."""

from collections.abc import Sequence
from dataclasses import asdict

import pytest

from runner.analysis.window.work import Work, count_work, read_work, select_sound
from runner.results.tables import TRIALS
from runner.spec.request import Completion
from tests.analysis.measurements import make_completion, make_even_measurement, make_measurement


def count_completions(completions: Sequence[Completion]) -> Work:
    """The work of a closed loop's window with these completions."""
    return count_work(make_measurement(list(completions), 4.0))


def test_the_fields_are_columns_of_the_table() -> None:
    assert set(asdict(count_completions([]))) <= set(TRIALS)


def test_requests_and_their_tokens_are_counted() -> None:
    work = count_work(make_even_measurement())
    assert work == Work(
        num_requests=8,
        num_failed_requests=0,
        num_truncated_requests=0,
        num_prompt_tokens=800,
        num_cached_tokens=0,
        num_output_tokens=88,
    )
    assert (work.num_sound_requests, work.num_prefill_tokens, work.num_decode_tokens) == (8, 800, 80)


def test_failed_requests_are_counted_and_their_tokens_are_not() -> None:
    sound = [make_completion(f"task/{k}", k, k + 0.5, k + 1.0) for k in range(3)]
    failed = make_completion("task/9", 3.0, 3.5, 3.9, error="aborted", last_token_ns=None, num_output_tokens=5)
    work = count_completions([*sound, failed])
    assert (work.num_requests, work.num_failed_requests, work.num_sound_requests) == (4, 1, 3)
    assert (work.num_prompt_tokens, work.num_output_tokens) == (300, 33)
    assert select_sound([*sound, failed]) == sound


def test_prompts_that_were_cut_are_counted() -> None:
    work = count_completions([make_completion(f"task/{k}", k, k + 0.5, k + 1.0, truncated=k > 0) for k in range(3)])
    assert (work.num_requests, work.num_truncated_requests) == (3, 2)


def test_cached_tokens_are_unknown_where_the_engine_does_not_tell() -> None:
    known = make_completion("task/0", 0, 1, 2, num_cached_tokens=64)
    unknown = make_completion("task/1", 0, 1, 2, num_cached_tokens=None)
    assert count_completions([known, known]).num_cached_tokens == 128
    assert count_completions([known, unknown]).num_cached_tokens is None


@pytest.mark.parametrize(("num_cached_tokens", "num_prefill_tokens"), [(64, 36), (0, 100), (None, 100)])
def test_tokens_from_the_cache_are_not_prefilled(num_cached_tokens: int | None, num_prefill_tokens: int) -> None:
    work = count_completions([make_completion("task/0", 0, 1, 2, num_cached_tokens=num_cached_tokens)])
    assert work.num_prefill_tokens == num_prefill_tokens


def test_the_first_token_of_each_request_is_not_decoded() -> None:
    requests = [make_completion(f"task/{k}", 0, 1, 2, num_output_tokens=tokens) for k, tokens in enumerate((1, 1, 5))]
    assert count_completions(requests).num_decode_tokens == 4
    scored = [make_completion("task/0", 0, 1, 1, kind="loglikelihood", num_output_tokens=0)]
    assert count_completions(scored).num_decode_tokens == -1  # nothing was generated, not even a first token


def test_work_is_read_back_from_a_row() -> None:
    work = count_work(make_even_measurement())
    assert read_work(asdict(work) | {"energy_j": 1.0}) == work
