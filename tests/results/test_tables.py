"""The schemas: every column says its unit."""

import re

import polars as pl
import pytest

from runner.results.tables import POWER, REQUESTS, SAMPLES, TRIALS

UNIT = r"(s|ns|w|j|js|mhz|c|bytes|bits|nats)"
NAMED = [
    re.compile(rf"(^|.*_){UNIT}(_(p05|p50|p95|p99|start|end|requested))?$"),
    re.compile(r"(steady_)?num_[a-z_]+$"),
    re.compile(r"(regression_)?joules_per_[a-z_]+$"),
    re.compile(r".*_fraction$"),
]
WITHOUT_UNIT = {
    "concurrency",  # a number asked for, and its mean
    "concurrency_mean",
    "burstiness",  # the shape of a distribution
    "queue_length_mean",  # numbers of requests
    "queue_growth",
    "repeat",  # ordinals
    "attempt",
    "round",
    "simulated_time_scale",  # ratios, and scores in their metric's own unit
    "quality",
    "quality_stderr",
    "quality_chance",
    "output_agreement",
    "output_agreement_default",
    "score",
    "loglikelihood",
    "type_token_ratio",
    "compression_ratio",
    "mtld",  # a mean number of words, and school grades: the names that the field has for them
    "automated_readability_index",
    "coleman_liau_index",
    "entities_per_100_words",
    "event_reasons",  # bits
}


@pytest.mark.parametrize("table", [TRIALS, REQUESTS, POWER, SAMPLES], ids=["TRIALS", "REQUESTS", "POWER", "SAMPLES"])
def test_every_numeric_column_says_its_unit_or_is_a_count(table: dict[str, pl.DataType]) -> None:
    numeric = [name for name, kind in table.items() if kind.is_numeric() and name not in WITHOUT_UNIT]
    assert [name for name in numeric if not any(pattern.match(name) for pattern in NAMED)] == []


@pytest.mark.parametrize("name", ["energy", "power_mw", "latency_ms", "tokens", "clock"])
def test_the_rule_for_names_refuses_other_units_and_none(name: str) -> None:
    assert not any(pattern.match(name) for pattern in NAMED)
