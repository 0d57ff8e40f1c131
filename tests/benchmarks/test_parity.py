"""The tolerance of benchmarks/parity.py: an implementation that rounds alike passes, a wrong one fails."""

import numpy as np
import pytest

from benchmarks.parity import Answer, Score, compare_greedy, compare_logprobs, compute_mistake_share

WINDOW, VOCAB_SIZE, NOISE = 64, 50, 0.02
PROMPT_LENGTHS = (30, 100) * 15
NUM_OUTPUT_TOKENS = 100


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tables(rng):
    """The truth: log-probabilities [num_tokens - 1, vocab_size] of each answer."""
    sizes = [num_prompt_tokens + NUM_OUTPUT_TOKENS - 1 for num_prompt_tokens in PROMPT_LENGTHS]
    return [np.log(rng.dirichlet(np.full(VOCAB_SIZE, 0.3), size) + 1e-6) for size in sizes]


def blur(tables, rng, noise=NOISE):
    return [table + rng.normal(0, noise, table.shape) for table in tables]


def score(tables, answers):
    return [
        Score(
            logprobs=table[np.arange(len(table)), answer.tokens[1:]],
            best_tokens=table.argmax(-1),
            best_logprobs=table.max(-1),
        )
        for table, answer in zip(tables, answers, strict=True)
    ]


def compare(tables, found, rng):
    """Judge an engine that computes `found` and answers greedily."""
    answers = [
        Answer(tokens=[0] * length + table[length - 1 :].argmax(-1).tolist(), num_prompt_tokens=length)
        for length, table in zip(PROMPT_LENGTHS, found, strict=True)
    ]
    truths, yardsticks = score(tables, answers), score(blur(tables, rng), answers)
    logprobs = [one.logprobs for one in score(found, answers)]
    return compare_logprobs(logprobs, answers, truths, yardsticks, WINDOW), compare_greedy(answers, truths, yardsticks)


def test_as_much_noise_as_the_yardstick_has_passes(tables, rng):
    rows, greedy = compare(tables, blur(tables, rng), rng)
    assert [row["num_tokens"] for row in rows] == [15 * (29 + 64), 15 * 35, 15 * 35, 15 * (65 + 100)]
    assert sum(row["num_tokens"] for row in rows) == sum(map(len, tables))
    for row in rows:
        assert row["ratio"]["mean"] == pytest.approx(1, abs=0.2)
        assert row["passed"]
    assert greedy["passed"]
    assert 0.95 < greedy["share_equal"] < 1
    assert 0.95 < greedy["yardstick_share_equal"] < 1


def test_thrice_the_noise_fails_everywhere(tables, rng):
    rows, _ = compare(tables, blur(tables, rng, 3 * NOISE), rng)
    assert not any(row["passed"] for row in rows)


def test_two_wrong_tokens_in_a_hundred_fail_where_they_are(tables, rng):
    """The mean hardly changes, but the 99th percentile does."""
    found = blur(tables, rng)
    for table in found:
        table[WINDOW + 1 :: 50] += 0.15
    rows, _ = compare(tables, found, rng)
    assert [row["passed"] for row in rows] == [True, False, True, False]
    assert all(row["ratio"]["mean"] < 2 for row in rows)


def test_a_token_that_is_not_nearly_the_best_fails(tables, rng):
    found = blur(tables, rng)
    found[0][50, int(found[0][50].argmin())] = 0.0
    _, greedy = compare(tables, found, rng)
    assert not greedy["passed"]
    assert greedy["largest_gap"] > greedy["largest_gap_allowed"]


@pytest.mark.parametrize("made", [0.0, 1.0])
def test_a_mistake_below_the_noise_shows_over_all_tokens(tables, rng, made):
    answers = [Answer(tokens=[0] * (len(table) + 1), num_prompt_tokens=1) for table in tables]
    wrongs = blur(tables, rng, NOISE / 4)
    found = blur([table + made * (wrong - table) for table, wrong in zip(tables, wrongs, strict=True)], rng)
    logprobs = [one.logprobs for one in score(found, answers)]
    share = compute_mistake_share(logprobs, score(tables, answers), score(wrongs, answers))
    # The standard error is the noise over the mistake's size, over the root of the number of tokens.
    assert share == pytest.approx(made, abs=4 * 4 / sum(map(len, tables)) ** 0.5)
