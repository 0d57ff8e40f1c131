import math
from statistics import stdev

import polars as pl
import pytest

from runner.analysis.run.intervals import GPU_SPREAD
from runner.analysis.run.operating_points import METRICS, OPERATING_POINTS
from runner.analysis.run.summary import count_failures, count_verdicts, summarise_operating_points
from runner.results import tables

T_2 = 4.302653
"""Student's t, two-sided 95 %, two degrees of freedom (any table)."""


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
        "duration_s": 10.0,
    }
    return pl.DataFrame(
        [common | {"start_ns": 15_000_000_000 * i} | row for i, row in enumerate(rows)], schema=tables.TRIALS
    )


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
    half_width = T_2 * stdev(map(math.log, (0.5, 0.6, 0.7))) / math.sqrt(3)
    assert row["is_default"]
    assert row["num_averaged"] == 3
    assert row["joules_per_token"] == pytest.approx(0.6)
    assert row["joules_per_token_low"] == pytest.approx(0.6 * math.exp(-half_width))
    assert row["joules_per_token_high"] == pytest.approx(0.6 * math.exp(half_width))
    assert row["joules_per_token_change"] == 0
    assert row["joules_per_token_change_low"] is None
    assert row["interval_reason"] is None


def test_one_trial_alone_has_no_interval_and_says_why():
    row = point(frame({"joules_per_output_token": 0.5}), None)
    assert row["joules_per_token_low"] is None
    assert row["interval_reason"] == "one default-clock trial alone shows no spread"
    two = frame({"joules_per_output_token": 0.5}, {"joules_per_output_token": 0.4, "sm_clock_mhz_requested": 990})
    assert point(two, 990)["joules_per_token_change"] == pytest.approx(-0.2)
    assert point(two, 990)["joules_per_token_change_low"] is None
    assert "too few trials on one GPU" in point(two, 990)["interval_reason"]


def test_each_trial_is_compared_with_the_default_clock_at_its_own_time():
    # The default clock drifts by 10 % from trial to trial; the other clock always needs 0.8 of it.
    drifting = [1.0, 1.1, 1.1**2, 1.1**3, 1.1**4, 1.1**5, 1.1**6]
    trials = frame(
        *(
            {"latency_s_p50": value * (0.8 if slow else 1.0), "sm_clock_mhz_requested": 990 if slow else None}
            for value, slow in zip(drifting, (0, 1, 0, 1, 1, 1, 0), strict=True)
        )
    )
    row = point(trials, 990)
    assert row["latency_s_p50_change"] == pytest.approx(-0.2)
    assert row["latency_s_p50_change_low"] == pytest.approx(-0.2)
    assert row["latency_s_p50_change_high"] == pytest.approx(-0.2)
    unpaired = row["latency_s_p50"] / point(trials, None)["latency_s_p50"] - 1
    assert abs(unpaired + 0.2) > 0.02


def test_below_three_repeats_the_default_clock_shows_the_spread():
    default = (2.0, 2.1, 1.9)
    trials = frame(
        {"latency_s_p50": default[0]},
        {"latency_s_p50": 2.5, "sm_clock_mhz_requested": 990},
        *({"latency_s_p50": value} for value in default[1:]),
    )
    row = point(trials, 990)
    log_ratio = math.log(2.5) - (math.log(2.0) + math.log(2.1)) / 2
    half_width = T_2 * stdev(map(math.log, default)) * math.sqrt(1 + 2 * 0.5**2)
    assert row["latency_s_p50_change"] == pytest.approx(math.expm1(log_ratio))
    assert row["latency_s_p50_change_low"] == pytest.approx(math.expm1(log_ratio - half_width))
    assert row["latency_s_p50_change_high"] == pytest.approx(math.expm1(log_ratio + half_width))


def test_what_the_sensor_cannot_see_widens_energies_alone():
    rows = [
        {"joules_per_output_token": 0.5 if clock is None else 0.4, "latency_s_p50": 1.0, "energy_j": 100.0,
         "energy_uncertainty_j": 2.0 if clock is None else 1.0, "sm_clock_mhz_requested": clock}
        for clock in (None, 990, 990, 990, None)
    ]  # fmt: skip
    row = point(frame(*rows), 990)
    assert row["energy_uncertainty_j"] == 1.0
    assert row["joules_per_token_high"] == pytest.approx(0.4 * math.exp(0.01))
    assert row["joules_per_token_change_high"] == pytest.approx(math.expm1(math.log(0.8) + math.hypot(0.01, 0.02)))
    assert row["latency_s_p50_change_high"] == row["latency_s_p50_change_low"] == 0


def test_a_block_that_moved_is_compared_on_each_gpu_or_widened():
    gpu_b_reads = 1.04
    moved = [
        {"joules_per_output_token": joules * (gpu_b_reads if gpu == "B" else 1.0), "latency_s_p50": 1.0,
         "sm_clock_mhz_requested": clock, "gpu_uuids": [gpu]}
        for joules, clock, gpu in (
            (0.5, None, "A"), (0.4, 990, "A"), (0.4, 990, "A"), (0.5, None, "A"),
            (0.5, None, "B"), (0.4, 990, "B"), (0.5, None, "B"),
        )
    ]  # fmt: skip
    row = point(frame(*moved), 990)
    assert row["gpu_uuids"] == ["A", "B"]
    assert row["default_is_on_same_board"]
    assert row["joules_per_token_change_low"] == pytest.approx(-0.2)
    assert row["joules_per_token_change_high"] == pytest.approx(-0.2)
    assert row["joules_per_token_high"] == pytest.approx(row["joules_per_token"] * math.exp(GPU_SPREAD))

    row = point(frame(*moved[:4], *({**trial, "sm_clock_mhz_requested": 750} for trial in moved[4:])), 750)
    assert not row["default_is_on_same_board"]
    assert row["joules_per_token_change_high"] - row["joules_per_token_change_low"] > 2 * 0.8 * GPU_SPREAD
    assert row["latency_s_p50_change_low"] == row["latency_s_p50_change_high"] == 0


def test_paired_trials_made_to_tell_phases_apart_are_no_operating_points():
    main = {"joules_per_output_token": 0.5, "joules_per_decode_token": 0.4, "joules_per_decode_token_low": 0.38,
            "joules_per_decode_token_high": 0.42, "phase_method": "output_lengths"}  # fmt: skip
    row = point(frame(main, {"joules_per_output_token": 9.0, "phase_role": "one_token"}), None)
    assert (row["num_trials"], row["joules_per_token"]) == (1, 0.5)
    assert row["phase_method"] == "output_lengths"
    assert [row[f"joules_per_decode_token{bound}"] for bound in ("", "_low", "_high")] == [0.4, 0.38, 0.42]
    assert row["joules_per_prefill_token"] is None


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
    assert row["interval_reason"] == "no trial finished"
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
