"""Log-probabilities of one model from two implementations in low precision, both held against the truth.

The tolerance. Both apply the same formula to the same weights and round in different places. Independent roundings
add up in quadrature, so that an error grows with the root of their number: a factor of `MAX_RATIO` = 2 allows the one
under test four roundings for each of the other's. It holds for the mean and for the 99th percentile of a group of
tokens; the largest of thousands is told and not judged, as it varies at random by as much. A generated token may
differ from the truth's best where the two are so close that errors within the tolerance change their order.

A mistake may be smaller than the rounding error of any one token, and still shows over all of them: as far as it has
been made, errors lie along what it would change. `compute_mistake_share` finds how far, by least squares.
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
    """A model's view of an answer's tokens but the first, each after those before it; natural logarithms."""

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
    """Compare absolute errors against the truth, those found and the yardstick's.

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

    `largest_gap` is by how much the truth prefers its own token to the one generated, at most, as a difference of
    log-probabilities.
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
    """Return 0 where a mistake has no part in the errors found, 1 where it was made; under 0.5 truth lies nearer.

    Args:
        found: log-probabilities of each answer's tokens but the first.
        wrongs: those of the truth with the mistake.
    """
    truth = np.concatenate([score.logprobs for score in truths])
    change = np.concatenate([score.logprobs for score in wrongs]) - truth
    return float((np.concatenate(found) - truth) @ change / (change @ change))


def _describe(errors: Floats) -> dict[str, float]:
    return {"mean": float(errors.mean()), "p99": float(np.percentile(errors, 99)), "max": float(errors.max())}
