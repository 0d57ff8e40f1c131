import math

import polars as pl
import pytest

from runner.analysis.summary import (
    METRICS,
    OPERATING_POINTS,
    count_failures,
    count_verdicts,
    summarise_operating_points,
)
from runner.results import tables


def frame(*rows: dict) -> pl.DataFrame:
    common = {
        "block_id": "b",
        "model": "small",
        "task": "qa",
        "request_kind": "generate",
        "concurrency": 4,
        "is_sentinel": False,
        "gpu_uuids": ["GPU-a"],
        "simulated": False,
        "status": "ok",
        "verdicts": [],
    }
    return pl.DataFrame([common | row for row in rows], schema=tables.TRIALS)


def point(trials: pl.DataFrame, sm_clock_mhz: int | None) -> dict:
    rows = summarise_operating_points(trials).filter(pl.col("sm_clock_mhz_requested").eq_missing(sm_clock_mhz))
    assert rows.height == 1
    return rows.row(0, named=True)


def test_summary_keeps_its_schema_with_and_without_rows():
    assert dict(summarise_operating_points(frame()).schema) == OPERATING_POINTS
    assert dict(summarise_operating_points(frame({})).schema) == OPERATING_POINTS
    assert count_verdicts(frame()).height == count_failures(frame()).height == 0


def test_default_row_averages_repeats_and_sentinels():
    row = point(
        frame(
            {"joules_per_output_token": 0.5, "is_sentinel": True},
            {"joules_per_output_token": 0.6},
            {"joules_per_output_token": 0.7, "is_sentinel": True},
        ),
        None,
    )
    assert row["is_default"]
    assert row["num_averaged"] == 3
    assert row["joules_per_token"] == pytest.approx(0.6)
    assert row["joules_per_token_sem"] == pytest.approx(0.1 / math.sqrt(3))
    assert row["joules_per_token_change"] == 0
    assert row["joules_per_token_change_sem"] is None


def test_standard_error_needs_three_trials():
    two = frame({"mean_power_w": 100.0}, {"mean_power_w": 120.0})
    assert point(two, None)["mean_power_w"] == pytest.approx(110)
    assert point(two, None)["mean_power_w_sem"] is None


def test_change_is_a_fraction_of_the_default_with_its_propagated_error():
    default = [{"latency_s_p50": value} for value in (1.9, 2.0, 2.1)]
    slow = [{"latency_s_p50": value, "sm_clock_mhz_requested": 990} for value in (2.4, 2.5, 2.6)]
    row = point(frame(*default, *slow), 990)
    sem = 0.1 / math.sqrt(3)
    assert row["latency_s_p50_change"] == pytest.approx(0.25)
    assert row["latency_s_p50_change_sem"] == pytest.approx(1.25 * math.hypot(sem / 2.5, sem / 2.0))


def test_no_default_means_no_change():
    row = point(frame({"sm_clock_mhz_requested": 990, "joules_per_output_token": 0.5, "quality": 0.5}), 990)
    assert row["joules_per_token"] == 0.5
    assert row["joules_per_token_change"] is None
    assert row["quality_difference"] is None
    assert row["default_is_sound"] is None


def test_trials_with_verdicts_are_left_out_while_a_sound_one_exists():
    row = point(
        frame(
            {"joules_per_output_token": 0.5},
            {"joules_per_output_token": 9.0, "verdicts": ["trace_gap", "clock_not_held"]},
            {"joules_per_output_token": None, "status": "failed", "error": "engine died", "verdicts": None},
        ),
        None,
    )
    assert row["joules_per_token"] == 0.5
    assert (row["num_trials"], row["num_averaged"], row["num_with_verdicts"], row["num_failed"]) == (3, 1, 1, 1)
    assert row["verdicts"] == ["clock_not_held", "trace_gap"]
    assert row["is_sound"]


def test_without_a_sound_trial_the_others_are_averaged_and_marked():
    row = point(
        frame(
            {"joules_per_output_token": 0.4, "verdicts": ["trace_gap"]},
            {"joules_per_output_token": 0.6, "verdicts": ["trace_gap"]},
        ),
        None,
    )
    assert row["joules_per_token"] == pytest.approx(0.5)
    assert not row["is_sound"]
    assert not row["is_least_energy"]


def test_a_point_that_only_failed_has_no_numbers():
    row = point(frame({"status": "failed", "verdicts": None}), None)
    assert row["num_averaged"] == 0
    assert all(row[metric] is None for metric in METRICS)
    assert not row["is_least_energy"]


def test_least_energy_is_one_sound_row_of_each_block():
    summary = summarise_operating_points(
        frame(
            {"joules_per_output_token": 0.5},
            {"joules_per_output_token": 0.4, "sm_clock_mhz_requested": 990},
            {"joules_per_output_token": 0.4, "sm_clock_mhz_requested": 750},
            {"joules_per_output_token": 0.1, "sm_clock_mhz_requested": 345, "verdicts": ["clock_not_held"]},
            {"joules_per_output_token": 0.05, "block_id": "c", "concurrency": 16},
        )
    )
    assert summary.filter("is_least_energy").select("concurrency", "sm_clock_mhz_requested").rows() == [
        (4, 990),
        (16, None),
    ]
    assert summary["sm_clock_mhz_requested"].to_list() == [None, 990, 750, 345, None]


def test_only_all_axes_at_their_defaults_are_the_default():
    summary = summarise_operating_points(
        frame(
            {"power_limit_w_requested": 400.0, "joules_per_output_token": 0.3},
            {"mem_clock_mhz_requested": 2201, "joules_per_output_token": 0.6},
            {"joules_per_output_token": 0.4},
        )
    )
    assert summary["is_default"].to_list() == [True, False, False]
    assert summary["joules_per_token_change"].to_list() == pytest.approx([0.0, -0.25, 0.5])


def test_loglikelihood_counts_prompt_tokens():
    row = point(
        frame(
            {"request_kind": "loglikelihood", "joules_per_prompt_token": 0.02, "joules_per_output_token": None},
        ),
        None,
    )
    assert (row["token_kind"], row["joules_per_token"]) == ("prompt", 0.02)


def test_quality_error_is_over_documents_not_over_repeats():
    default = [{"quality": 0.50, "quality_stderr": 0.03}] * 3
    slow = [{"quality": 0.52, "quality_stderr": 0.04, "sm_clock_mhz_requested": 990}] * 3
    row = point(frame(*default, *slow), 990)
    assert row["quality_stderr"] == pytest.approx(0.04)
    assert row["quality_difference"] == pytest.approx(0.02)
    assert row["quality_difference_stderr"] == pytest.approx(0.05)


def test_verdicts_and_failures_are_counted():
    trials = frame(
        {"verdicts": ["trace_gap"]},
        {"verdicts": ["trace_gap", "power_capped"]},
        {"status": "failed", "error": "out of memory", "verdicts": None},
        {"status": "failed", "error": "out of memory", "verdicts": None},
        {"status": "failed", "verdicts": []},
    )
    assert count_verdicts(trials).rows() == [("trace_gap", 2), ("power_capped", 1)]
    assert count_failures(trials).rows() == [("out of memory", 2), (None, 1)]
