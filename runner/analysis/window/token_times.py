"""When a request's output tokens came: evenly spaced from its first to its last."""

from collections.abc import Iterable

from runner.spec.request import Completion


def count_tokens(completions: Iterable[Completion], start_ns: int, end_ns: int) -> int:
    """Return the output tokens that came in (start, end]."""
    return round(sum(_tokens_between(completion, start_ns, end_ns) for completion in completions))


def _tokens_between(completion: Completion, start_ns: int, end_ns: int) -> float:
    """Return the output tokens in (start, end]. A request's tokens are evenly spaced from its first to its last."""
    first_ns, last_ns = completion.first_token_ns or 0, completion.last_token_ns or 0
    num_tokens = completion.num_output_tokens
    if num_tokens == 0:
        return 0.0
    if num_tokens == 1 or last_ns == first_ns:
        return float(num_tokens) if start_ns < first_ns <= end_ns else 0.0

    def made_by(time_ns: int) -> float:
        if time_ns < first_ns:
            return 0.0
        return min(1 + (time_ns - first_ns) / (last_ns - first_ns) * (num_tokens - 1), float(num_tokens))

    return made_by(end_ns) - made_by(start_ns)
