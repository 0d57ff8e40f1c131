"""Sentinels that differ, and the trials that they touch."""

from typing import Any

import polars as pl
import pytest

from runner.analysis.run.completed_trials import complete_trials
from runner.analysis.run.drift import PACE_SLACK_S, describe_drift, mark_sentinel_drift
from runner.inference.vllm.paced.pace import MAX_LAG_NS
from runner.results.tables import TRIALS


def make_row(start_s: float, **changes: Any) -> dict[str, Any]:
    """A trial at a set clock: 500 J in 10 s for 1000 tokens."""
    return {
        "trial_id": f"t{start_s:g}",
        "block_id": "b0",
        "request_kind": "generate",
        "is_sentinel": False,
        "gpu_uuids": ["GPU-0"],
        "status": "ok",
        "verdicts": [],
        "start_ns": round(start_s * 1e9),
        "duration_s": 10.0,
        "num_prompt_tokens": 5000,
        "num_output_tokens": 1000,
        "energy_j": 500.0,
    } | changes


def make_sentinel(start_s: float, energy_j: float = 500.0, **changes: Any) -> dict[str, Any]:
    return make_row(start_s, **{"is_sentinel": True, "energy_j": energy_j} | changes)


def make_frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{column: row.get(column) for column in TRIALS} for row in rows], schema=TRIALS)


def mark(*rows: dict[str, Any]) -> dict[str, list[str]]:
    trials = make_frame(*rows)
    marked = mark_sentinel_drift(trials)
    assert marked.drop("verdicts").equals(trials.drop("verdicts"))  # the same rows, in the same order
    return dict(marked.select("trial_id", "verdicts").rows())


def touched(*rows: dict[str, Any]) -> list[str]:
    return [trial_id for trial_id, verdicts in mark(*rows).items() if "sentinel_drift" in verdicts]


@pytest.mark.parametrize(
    ("changes", "drift"),
    [
        ({}, None),
        ({"energy_j": 509.9}, None),
        ({"energy_j": 510.1}, "energy per token +2.0%"),
        ({"energy_j": 480.0}, "energy per token -4.0%"),
        ({"duration_s": 10.19}, None),
        ({"duration_s": 10.3}, "time per token +3.0%"),
        ({"energy_j": 550.0, "duration_s": 11.0}, "energy per token +10.0%, time per token +10.0%"),
        # Longer answers: more of everything, and no drift.
        ({"energy_j": 550.0, "duration_s": 11.0, "num_output_tokens": 1100}, None),
        ({"energy_j": None}, None),
        ({"energy_j": 530.0, "energy_uncertainty_j": 37.1}, None),  # it is known to 7 %
        ({"energy_j": 530.0, "energy_uncertainty_j": 5.3}, "energy per token +6.0%"),
    ],
)
def test_drift_is_two_percent_in_energy_or_time_for_the_same_work(changes: dict[str, Any], drift: str | None) -> None:
    assert describe_drift(make_sentinel(0), make_sentinel(100) | changes) == drift


def test_log_likelihoods_are_compared_by_prompt_token() -> None:
    before = make_sentinel(0, request_kind="loglikelihood", num_output_tokens=0)
    assert describe_drift(before, before | {"num_prompt_tokens": 5500, "energy_j": 550.0, "duration_s": 11.0}) is None
    assert describe_drift(before, before | {"energy_j": 550.0}) == "energy per token +10.0%"


def test_the_trials_between_and_the_later_sentinel_carry_it_and_nobody_else() -> None:
    rows = [
        make_sentinel(0),
        make_row(10),
        make_sentinel(20),
        make_row(30),
        make_row(40, verdicts=["trace_gap"]),
        make_sentinel(50, 515.0),
        make_row(60),
        make_sentinel(70, 516.0),
    ]
    expected = {"t30": ["sentinel_drift"], "t40": ["trace_gap", "sentinel_drift"], "t50": ["sentinel_drift"]}
    for order in (rows, rows[::-1]):
        verdicts = mark(*order)
        assert {trial_id: codes for trial_id, codes in verdicts.items() if codes} == expected
        completed = complete_trials(make_frame(*order))
        assert dict(completed.select("trial_id", "verdicts").rows()) == verdicts


def test_blocks_and_gpus_have_sentinels_of_their_own() -> None:
    other_block = [make_sentinel(1, 600.0, block_id="b1"), make_sentinel(21, 600.0, block_id="b1")]
    other_gpu = [make_sentinel(2, 700.0, gpu_uuids=["GPU-1"]), make_sentinel(22, 700.0, gpu_uuids=["GPU-1"])]
    assert touched(make_sentinel(0), make_sentinel(20), *other_block, *other_gpu) == []


def test_a_sentinel_with_a_verdict_tells_nothing_and_its_retry_does() -> None:
    rows = [
        make_sentinel(0),
        make_row(10),
        make_sentinel(20, 800.0, verdicts=["foreign_process"]),
        make_sentinel(25, 800.0, status="failed"),
        make_row(30),
        make_sentinel(40),
    ]
    assert touched(*rows) == []
    assert touched(*rows, make_row(50), make_sentinel(60, 600.0)) == ["t50", "t60"]


def test_trials_after_the_last_sentinel_and_failed_ones_are_left_alone() -> None:
    rows = [make_sentinel(0), make_row(10, status="failed"), make_sentinel(20, 600.0), make_row(30)]
    assert touched(*rows) == ["t20"]
    assert touched(make_row(0)) == []
    assert mark() == {}


def test_what_pacing_leaves_open_of_a_window_is_no_drift() -> None:
    paced = make_sentinel(0, duration_s=2.4, pace_lost_s=0.0)
    slack_ns = round(PACE_SLACK_S * 1e9)
    assert slack_ns == MAX_LAG_NS
    assert describe_drift(paced, paced | {"duration_s": 2.5}) is None  # 4 %, and 0.1 s of each is open
    assert describe_drift(paced, paced | {"duration_s": 2.6}) == "time per token +8.3%"
    real = paced | {"pace_lost_s": None}
    assert describe_drift(real, real | {"duration_s": 2.5}) == "time per token +4.2%"


@pytest.mark.parametrize(
    ("changes", "is_compared"),
    [
        ({}, True),
        ({"num_requests": 50, "num_prompt_tokens": 2510, "num_output_tokens": 500}, True),  # fewer of the same
        ({"num_prompt_tokens": 5500}, False),
        ({"num_output_tokens": 1010}, False),
    ],
)
def test_windows_that_were_cut_are_compared_where_their_prompts_and_outputs_are_alike(
    changes: dict[str, Any], is_compared: bool
) -> None:
    """Else longer prompts would look like drift."""
    before = make_sentinel(0, num_requests=100, num_requests_left_out=30)
    after = before | changes | {"energy_j": 600.0 * changes.get("num_output_tokens", 1000) / 1000}
    assert (describe_drift(before, after) is not None) == is_compared
    whole = {"num_requests_left_out": 0}
    assert describe_drift(before | whole, after | whole) is not None
