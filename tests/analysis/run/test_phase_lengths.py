"""Prefill and decode by trials of three output lengths, on rows whose joules can be worked out on paper."""

from typing import Any

import polars as pl
import pytest

from runner.analysis.run.phase_lengths import CLOCK_ELASTICITY, complete_phases
from runner.results.tables import TRIALS

NUM_REQUESTS, NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS = 10, 100, 21
PREFILL_J, DECODE_J = 0.02, 0.5


def make_row(role: str | None, repeat: int = 0, **changes: Any) -> dict[str, Any]:
    """A trial of ten requests: 2 J of prefill each, 0.5 J for each token after the first."""
    num_tokens = {None: NUM_OUTPUT_TOKENS, "half_length": NUM_OUTPUT_TOKENS // 2, "one_token": 1}[role]
    row = dict.fromkeys(TRIALS) | {
        "trial_id": f"{role or 'whole'}-{repeat}",
        "block_id": "b0",
        "repeat": repeat,
        "is_sentinel": False,
        "phase_role": role,
        "attempt": 1,
        "status": "ok",
        "verdicts": [],
        "start_ns": repeat,
        "num_requests": NUM_REQUESTS,
        "num_failed_requests": 0,
        "num_prompt_tokens": NUM_REQUESTS * NUM_PROMPT_TOKENS,
        "num_cached_tokens": 0,
        "num_output_tokens": NUM_REQUESTS * num_tokens,
        "energy_j": NUM_REQUESTS * (NUM_PROMPT_TOKENS * PREFILL_J + DECODE_J * (num_tokens - 1)),
        "energy_uncertainty_j": 3.0,
        "phase_method": "all_prefill" if role == "one_token" else None,
        "phase_reason": "as it was",
    }
    return row | changes


def make_group(repeat: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [make_row(role, repeat, **changes) for role in ("half_length", None, "one_token")]


def complete(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    trials = pl.DataFrame(rows, schema=TRIALS)
    completed = complete_phases(trials)
    assert completed.schema == trials.schema
    assert completed["trial_id"].to_list() == trials["trial_id"].to_list()
    return {row["trial_id"]: row for row in completed.to_dicts()}


def test_one_token_is_prefill_and_what_more_tokens_take_is_decoding() -> None:
    row = complete(make_group())["whole-0"]
    assert (row["phase_method"], row["phase_reason"], row["phase_interval"]) == ("output_lengths", None, "sensor")
    assert row["joules_per_prefill_token"] == pytest.approx(PREFILL_J)
    assert row["joules_per_decode_token"] == pytest.approx(DECODE_J)
    assert row["prefill_energy_j"] == pytest.approx(NUM_REQUESTS * 2.0)
    assert row["decode_energy_j"] == pytest.approx(NUM_REQUESTS * 20 * DECODE_J)
    assert row["phase_residual_fraction"] == pytest.approx(0.0, abs=1e-12)


def test_the_sensors_uncertainty_is_carried_through() -> None:
    row = complete(make_group())["whole-0"]
    half_width_j = (0.3**2 + 0.3**2) ** 0.5 / 20  # 3 J over ten requests, twice, over twenty tokens
    assert row["joules_per_decode_token_low"] == pytest.approx(DECODE_J - half_width_j)
    assert row["joules_per_decode_token_high"] == pytest.approx(DECODE_J + half_width_j)
    assert row["joules_per_prefill_token_high"] == pytest.approx(PREFILL_J + 3.0 / 1000)
    row = complete(make_group(energy_uncertainty_j=None))["whole-0"]
    assert row["joules_per_decode_token"] == pytest.approx(DECODE_J)
    assert (row["joules_per_decode_token_low"], row["phase_interval"]) == (None, None)
    assert row["phase_reason"] == "an interval needs two sound repeats, or a sensor of known uncertainty"


def test_decoding_that_grows_dearer_gives_an_interval_over_both_halves_of_the_answer() -> None:
    rows = make_group(energy_uncertainty_j=0.0)
    rows[1]["energy_j"] += 11 * NUM_REQUESTS * 0.1  # the last 11 of 20 tokens cost 0.6 J each
    row = complete(rows)["whole-0"]
    assert row["joules_per_decode_token"] == pytest.approx((9 * 0.5 + 11 * 0.6) / 20)
    assert row["joules_per_decode_token_low"] == pytest.approx(0.5)
    assert row["joules_per_decode_token_high"] == pytest.approx(0.6)
    # The half-length trial took 2 + 9 * 0.5 J a request, and the whole's mean would have it take more.
    assert row["phase_residual_fraction"] == pytest.approx(1 - (2 + 9 * 0.555) / 6.5)
    assert row["prefill_energy_j"] + row["decode_energy_j"] == pytest.approx(row["energy_j"])


def test_repeats_are_paired_and_give_students_interval() -> None:
    rows = []
    for repeat, factor in enumerate((0.9, 1.0, 1.1)):
        # A GPU that draws more in one repeat draws more in all three trials of it.
        rows += [row | {"energy_j": row["energy_j"] * factor} for row in make_group(repeat, energy_uncertainty_j=None)]
    completed = complete(rows)
    for repeat, factor in enumerate((0.9, 1.0, 1.1)):
        row = completed[f"whole-{repeat}"]
        assert row["phase_interval"] == "repeats"
        assert row["joules_per_decode_token"] == pytest.approx(DECODE_J * factor)
        # t with two degrees of freedom is 4.3027; the standard error of 0.9, 1.0, 1.1 is 0.1 / sqrt(3).
        half_width = 4.3027 * 0.1 / 3**0.5
        assert row["joules_per_decode_token_low"] == pytest.approx(DECODE_J * (1 - half_width), rel=1e-4)
        assert row["joules_per_prefill_token_high"] == pytest.approx(PREFILL_J * (1 + half_width), rel=1e-4)


def test_repeats_do_not_show_what_the_sensor_never_sees() -> None:
    row = complete([*make_group(0), *make_group(1)])["whole-0"]
    assert row["phase_interval"] == "repeats"
    assert row["joules_per_prefill_token_low"] == pytest.approx(PREFILL_J - 3.0 / 1000)


def test_points_and_blocks_are_kept_apart() -> None:
    other = [row | {"trial_id": f"x-{row['trial_id']}", "energy_j": 2 * row["energy_j"]} for row in make_group()]
    slow = [row | {"sm_clock_mhz_requested": 900} for row in other]
    elsewhere = [row | {"trial_id": f"y{row['trial_id']}", "block_id": "b1"} for row in other]
    completed = complete([*make_group(), *slow, *elsewhere])
    assert completed["whole-0"]["joules_per_decode_token"] == pytest.approx(DECODE_J)
    assert completed["x-whole-0"]["joules_per_decode_token"] == pytest.approx(2 * DECODE_J)
    assert completed["yx-whole-0"]["joules_per_decode_token"] == pytest.approx(2 * DECODE_J)
    assert {completed[name]["phase_interval"] for name in ("whole-0", "x-whole-0", "yx-whole-0")} == {"sensor"}


@pytest.mark.parametrize("role", [None, "half_length", "one_token"])
def test_trials_with_verdicts_are_left_out(role: str | None) -> None:
    rows = [row | {"verdicts": ["trace_gap"]} if row["phase_role"] == role else row for row in make_group()]
    row = complete(rows)["whole-0"]
    assert (row["phase_method"], row["joules_per_decode_token"], row["prefill_energy_j"]) == (None, None, None)
    if role is None:
        assert row["phase_reason"] == "the trial itself is not sound: trace_gap"
    else:
        assert row["phase_reason"] == f"there is no sound paired trial {role} at this operating point and repeat"


def test_a_retry_stands_in_for_the_trial_that_it_repeats() -> None:
    rows = make_group()
    rows[0]["verdicts"] = ["trace_gap"]
    rows[0]["energy_j"] = 1.0
    retried = make_row("half_length", trial_id="half_length-0-2", attempt=2)
    assert complete([*rows, retried])["whole-0"]["joules_per_decode_token"] == pytest.approx(DECODE_J)
    rows = make_group()
    rows[1]["verdicts"] = ["trace_gap"]
    completed = complete([*rows, make_row(None, trial_id="whole-0-2", attempt=2)])
    assert completed["whole-0"]["phase_reason"] == "the trial itself is not sound: trace_gap"
    assert completed["whole-0-2"]["joules_per_decode_token"] == pytest.approx(DECODE_J)
    assert completed["whole-0-2"]["phase_interval"] == "sensor"


def test_failed_trials_and_sentinels_have_no_phases() -> None:
    failed = make_row(None, 1, status="failed", energy_j=None)
    sentinel = make_row(None, 0, trial_id="sentinel", is_sentinel=True)
    completed = complete([*make_group(), failed, sentinel])
    assert completed["sentinel"]["phase_reason"] == "a sentinel has no paired trials"
    assert completed["whole-1"]["phase_reason"] == "as it was"
    assert completed["whole-0"]["phase_interval"] == "sensor"


def test_paired_trials_and_other_blocks_stay_as_they_are() -> None:
    other = make_row(None, block_id="b9", trial_id="other")
    completed = complete([*make_group(), other])
    for name in ("half_length-0", "one_token-0", "other"):
        assert completed[name]["phase_reason"] == "as it was"
    assert completed["one_token-0"]["phase_method"] == "all_prefill"
    alone = pl.DataFrame([other], schema=TRIALS)
    assert complete_phases(alone).equals(alone)
    assert complete_phases(alone.clear()).equals(alone.clear())


def make_group_at(one_token_mhz: float, column: str = "prefill_sm_clock_mhz", **changes: Any) -> list[dict[str, Any]]:
    clocks = {"one_token": one_token_mhz, "half_length": 1800.0, None: 1800.0}
    return [row | {column: clocks[row["phase_role"]]} for row in make_group(**changes)]


def test_an_interval_holds_what_different_clocks_of_prefill_may_have_changed() -> None:
    rows = make_group_at(1750.0, energy_uncertainty_j=0.0)
    row = complete(rows)["whole-0"]
    assert row["phase_reason"] is None
    assert row["joules_per_prefill_token"] == pytest.approx(PREFILL_J)
    share = CLOCK_ELASTICITY * (1800 / 1750 - 1)
    assert row["joules_per_prefill_token_high"] - PREFILL_J == pytest.approx(share * PREFILL_J)
    # 2 J of prefill and 20 further tokens a request.
    assert DECODE_J - row["joules_per_decode_token_low"] == pytest.approx(share * 2.0 / 20)


@pytest.mark.parametrize("elasticity", [-1.0, 1.0])
def test_decoding_stays_in_its_interval_if_prefill_follows_its_clock(elasticity: float) -> None:
    rows = make_group_at(1700.0, energy_uncertainty_j=0.0)
    for row in rows:
        if row["phase_role"] == "one_token":
            row["energy_j"] *= (1700 / 1800) ** elasticity
    row = complete(rows)["whole-0"]
    assert row["joules_per_decode_token"] != pytest.approx(DECODE_J, rel=1e-3)
    for name, truth_j in (("prefill", PREFILL_J), ("decode", DECODE_J)):
        assert row[f"joules_per_{name}_token_low"] < truth_j < row[f"joules_per_{name}_token_high"]


@pytest.mark.parametrize("column", ["prefill_sm_clock_mhz", "sm_clock_mhz"])  # the second where steps are not told
def test_clocks_far_apart_leave_values_without_an_interval(column: str) -> None:
    row = complete(make_group_at(1575.0, column))["whole-0"]
    reason = "no interval: prefill ran at 1800 MHz in this trial, at 1575 in one_token, at 1800 in half_length"
    assert row["phase_reason"].startswith(reason)
    assert row["joules_per_prefill_token"] == pytest.approx(PREFILL_J)
    assert row["joules_per_prefill_token_low"] is None
    assert row["joules_per_decode_token_high"] is None
