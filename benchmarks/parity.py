"""Compares the log-probabilities of two implementations of a model in low precision with the truth.

The tolerance: both implementations apply the same formula to the same weights and round in different places.
Independent roundings add up in quadrature, so an error grows with the root of their number. `MAX_RATIO` = 2 allows the
implementation under test four roundings for each of the other's. It applies to the mean and to the 99th percentile of a
group of tokens. The largest error of thousands is shown but not judged, since it varies by as much at random. A
generated token may differ from the truth's best if errors within the tolerance change the order of the two.

A mistake may be smaller than the rounding error of any one token and still show over all tokens: the errors then
correlate with what the mistake changes. `compute_mistake_share` finds the share by least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_RATIO = 2.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A prompt with what was generated after it, as token ids."""

    tokens: list[int]
    num_prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A model's log-probabilities (natural) of an answer's tokens but the first, each after those before it."""

    logprobs: Floats
    best_tokens: npt.NDArray[np.int64]
    best_logprobs: Floats


def compare_logprobs(
    found: Sequence[Floats],
    answers: Sequence[Answer],
    truths: Sequence[Score],
    yardsticks: Sequence[Score],
    window_size: int,
) -> list[dict[str, Any]]:
    """Compare the absolute errors of the found log-probabilities with the yardstick's.

    Args:
        found: log-probabilities of each answer's tokens but the first.
        yardsticks: the other implementation's in the same precision.
        window_size: of local attention, in tokens.
    Returns: a row for prompt and output tokens with a context of up to `window_size` tokens, and of more.
    """
    num_context_tokens = np.concatenate([np.arange(1, len(answer.tokens)) for answer in answers])
    is_output = np.concatenate([np.arange(1, len(answer.tokens)) >= answer.num_prompt_tokens for answer in answers])
    truth = np.concatenate([score.logprobs for score in truths])
    errors = np.abs(np.concatenate(found) - truth)
    yardstick_errors = np.abs(np.concatenate([score.logprobs for score in yardsticks]) - truth)
    rows = []
    for kind, of_kind in (("prompt", ~is_output), ("output", is_output)):
        for place, at_place in (
            ("within", num_context_tokens <= window_size),
            ("beyond", num_context_tokens > window_size),
        ):
            chosen = of_kind & at_place
            error, yardstick = _describe(errors[chosen]), _describe(yardstick_errors[chosen])
            ratio = {name: error[name] / yardstick[name] for name in error}
            rows.append(
                {
                    "tokens": f"{kind}, {place} the window",
                    "num_tokens": int(chosen.sum()),
                    "error": error,
                    "yardstick_error": yardstick,
                    "ratio": ratio,
                    "passed": ratio["mean"] <= MAX_RATIO and ratio["p99"] <= MAX_RATIO,
                }
            )
    return rows


def compare_greedy(answers: Sequence[Answer], truths: Sequence[Score], yardsticks: Sequence[Score]) -> dict[str, Any]:
    """Compare the generated tokens with the truth's best ones, each after the same tokens.

    `largest_gap` is the largest difference of log-probabilities by which the truth prefers its own token.
    """

    def of_output(values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([v[a.num_prompt_tokens - 1 :] for v, a in zip(values, answers, strict=True)])

    best = of_output([score.best_tokens for score in truths])
    own = of_output([score.logprobs for score in truths])
    largest_gap = float((of_output([score.best_logprobs for score in truths]) - own).max())
    yardstick_error = float(np.abs(of_output([score.logprobs for score in yardsticks]) - own).max())
    largest_gap_allowed = 2 * MAX_RATIO * yardstick_error  # both tokens' log-probabilities are off
    return {
        "num_tokens": len(best),
        "share_equal": float((of_output([np.array(answer.tokens[1:]) for answer in answers]) == best).mean()),
        "yardstick_share_equal": float((of_output([score.best_tokens for score in yardsticks]) == best).mean()),
        "largest_gap": largest_gap,
        "largest_gap_allowed": largest_gap_allowed,
        "passed": largest_gap <= largest_gap_allowed,
    }


def compute_mistake_share(found: Sequence[Floats], truths: Sequence[Score], wrongs: Sequence[Score]) -> float:
    """Return the share of a mistake in the errors found: 0 if it was not made, 1 if it was. Below 0.5 truth is nearer.

    Args:
        found: log-probabilities of each answer's tokens but the first.
        wrongs: those of the truth with the mistake.
    """
    truth = np.concatenate([score.logprobs for score in truths])
    change = np.concatenate([score.logprobs for score in wrongs]) - truth
    return float((np.concatenate(found) - truth) @ change / (change @ change))


def _describe(errors: Floats) -> dict[str, float]:
    return {"mean": float(errors.mean()), "p99": float(np.percentile(errors, 99)), "max": float(errors.max())}
