"""The table of correlations; which rows it has is in tests/display/text/test_correlations.py."""

from runner.display.report.correlation_columns import correlation_columns
from tests.display.studies import make_study


def test_a_row_has_feature_coefficient_interval_and_q() -> None:
    correlations = make_study().correlations
    rows = zip(*(column.cells for column in correlation_columns(correlations)), strict=True)
    assert list(rows) == [
        (target, "num_prompt_tokens", "+0.90", "+0.80 to +1.00", "0.001", "60") for target in ("energy", "latency")
    ]
    assert correlation_columns(correlations.clear()) == []
