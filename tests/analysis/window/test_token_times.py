"""Output tokens between two instants."""

import pytest

from runner.analysis.window.token_times import count_tokens
from tests.analysis.measurements import at, make_completion


@pytest.mark.parametrize(
    ("start_s", "end_s", "num_tokens"),
    [(0.0, 2.0, 11), (0.0, 1.0, 1), (0.0, 1.5, 6), (1.0, 2.0, 10), (1.25, 1.75, 5), (2.0, 3.0, 0), (0.0, 0.9, 0)],
)
def test_tokens_are_evenly_spaced_from_the_first_to_the_last(start_s: float, end_s: float, num_tokens: int) -> None:
    """Eleven tokens: the first one at 1 s, the last one at 2 s."""
    assert count_tokens([make_completion("a", 0.0, 1.0, 2.0)], at(start_s), at(end_s)) == num_tokens


def test_a_single_token_counts_where_it_came() -> None:
    single = make_completion("a", 0.0, 1.0, 1.0, num_output_tokens=1)
    assert [count_tokens([single], at(start), at(start + 1)) for start in (0.0, 1.0)] == [1, 0]
    assert count_tokens([make_completion("a", 0.0, 1.0, 1.0, num_output_tokens=0)], at(0), at(2)) == 0
