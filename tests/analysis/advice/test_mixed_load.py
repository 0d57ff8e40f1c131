"""One operating point for all workloads of a GPU."""

import pytest

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.analysis.advice.mixed_load import MIXED_LOADS, recommend_for_all
from runner.analysis.run.summary import summarise_operating_points
from tests.analysis.trial_rows import block, frame, trial

CHANGES = {1500: (0.85, 1.02), 990: (0.80, 1.10), 345: (1.20, 2.00)}


def for_all(rows, limits=NO_LIMITS):
    recommended = recommend_for_all(summarise_operating_points(frame(*rows)), limits)
    return recommended.row(0, named=True) if recommended.height else None


def test_the_schema_holds_with_and_without_rows():
    for rows in ([], block(CHANGES), block(CHANGES) + block(CHANGES, block_id="c", task="cloze")):
        assert dict(recommend_for_all(summarise_operating_points(frame(*rows)), NO_LIMITS).schema) == MIXED_LOADS


def test_a_mixed_load_gets_the_point_that_saves_most_over_all_of_it():
    other = {1500: (0.80, 1.01), 990: (0.95, 1.05)}
    row = for_all(block(CHANGES) + block(other, block_id="c", task="cloze"))
    assert (row["conclusion"], row["sm_clock_mhz_requested"]) == ("saves", 1500)
    assert row["change"] == pytest.approx((-0.15 - 0.20) / 2, abs=0.001)
    assert row["change_low"] < row["change"] < row["change_high"] < 0
    assert (row["num_blocks"], row["num_compared"]) == (2, 2)  # 345 MHz was measured in one block only
    assert row["slowdown_least"] == pytest.approx(0.01)
    assert row["slowdown_most"] == pytest.approx(0.02)


def test_a_mixed_load_keeps_the_limits_everywhere():
    other = {1500: (0.90, 1.30), 990: (0.95, 1.05)}
    rows = block(CHANGES) + block(other, block_id="c", task="cloze")
    assert for_all(rows, Limits(max_slowdown=0.2))["sm_clock_mhz_requested"] == 990
    row = for_all(rows, Limits(max_slowdown=0.01))
    assert (row["conclusion"], row["sm_clock_mhz_requested"]) == ("default", None)


def test_blocks_without_a_comparison_are_left_out_of_a_mixed_load():
    lonely = [trial(None, 1.0, block_id="d", task="other")]
    rows = block(CHANGES) + block(CHANGES, block_id="c", task="cloze") + lonely
    row = for_all(rows)
    assert (row["num_blocks"], row["num_blocks_left_out"], row["sm_clock_mhz_requested"]) == (2, 1, 990)
    assert for_all(block(CHANGES) + lonely) is None
    apart = block({1500: (0.9, 1.0)}) + block({990: (0.9, 1.0)}, block_id="c", task="cloze")
    assert for_all(apart)["conclusion"] == "none"


def test_gpus_of_two_kinds_are_not_mixed():
    rows = block(CHANGES) + block(CHANGES, block_id="c", task="cloze", gpu_name="another")
    assert for_all(rows) is None


def test_a_saving_whose_interval_holds_0_is_not_shown():
    even = {990: (0.9999, 1.0)}
    row = for_all(block(even) + block(even, block_id="c", task="cloze"))
    assert (row["conclusion"], row["sm_clock_mhz_requested"]) == ("unproven", 990)
    assert row["reason"] == "the saving is no larger than its error"
    thin = [
        trial(clock, joules, block_id=name, task=name)
        for name in ("b", "c")
        for clock, joules in ((None, 1.0), (990, 0.8))
    ]
    row = for_all(thin)
    assert (row["conclusion"], row["change_high"]) == ("unproven", None)
    assert row["reason"].startswith("too few trials on one GPU")


def test_the_worst_quality_is_told_and_unknown_where_one_block_has_no_score():
    scored = {"quality_higher_is_better": True}
    low = [
        row | scored | {"quality": 0.48 if row["sm_clock_mhz_requested"] == 990 else 0.5}
        for row in block({990: (0.8, 1.1)})
    ]
    same = [row | scored | {"quality": 0.5} for row in block({990: (0.8, 1.1)}, block_id="c", task="cloze")]
    assert for_all(low + same)["quality_change_worst"] == pytest.approx(-0.04)
    assert for_all(low + block({990: (0.8, 1.1)}, block_id="c", task="cloze"))["quality_change_worst"] is None
