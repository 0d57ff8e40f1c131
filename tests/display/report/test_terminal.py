"""The report's numbers are checked by hand here; how it looks is in tests/display/golden/report_*.txt."""

import math
import re
from dataclasses import replace
from statistics import geometric_mean

import polars as pl
import pytest
from rich.cells import cell_len

from runner.analysis.advice.common_samples import COMMON_QUALITY
from runner.analysis.run.summary import summarise_operating_points
from runner.analysis.study import study_trials
from runner.display.report.columns import build_columns, fit_columns
from runner.display.report.terminal import render_report
from runner.display.text.findings import describe_block, describe_quality
from runner.results import tables

MINUS = "\N{MINUS SIGN}"
MANIFEST = {"sweep": {"name": "clocks-small"}}


def trial(clock: int | None, joules: float | None, latency_s: float, **columns) -> dict:
    generate = columns.get("request_kind", "generate") == "generate"
    energy = "joules_per_output_token" if generate else "joules_per_prompt_token"
    return {
        "block_id": "qa",
        "model": "small",
        "task": "tiny_qa",
        "request_kind": "generate",
        "concurrency": 4,
        "is_sentinel": False,
        "sm_clock_mhz_requested": clock,
        "gpu_uuids": ["SIM-0"],
        "gpu_name": "NVIDIA H200 (simulated)",
        "simulated": True,
        "status": "ok",
        "verdicts": [],
        "duration_s": 10.0,
        "sm_clock_mhz": 1980.0 if clock is None else float(clock),
        "energy_j": 100.0,
        "mean_power_w": 500.0,
        energy: joules,
        "output_tokens_per_s": 4 * 32 / latency_s,
        "requests_per_s": 4 / latency_s,
        "latency_s_p50": latency_s,
        "tpot_s_p50": latency_s / 32,
        "quality": 0.62,
        "quality_metric": "exact_match",
        "quality_higher_is_better": True,
        "quality_stderr": 0.03,
    } | columns


def frame(*rows: dict) -> pl.DataFrame:
    """One after the other, 15 s apart."""
    return pl.DataFrame([{"start_ns": 15_000_000_000 * i} | row for i, row in enumerate(rows)], schema=tables.TRIALS)


TRIALS = frame(
    # The default clock drifts: 0.50, 0.52, 0.54, 0.56 -> 0.53; latency 1.00. Between each two stands a 990 MHz trial:
    # 0.38, 0.40, 0.42 -> 0.40; in the mean 24.5 % less, 4.0 % slower; one trial is left out.
    trial(None, 0.50, 1.0, is_sentinel=True),
    trial(990, 0.38, 1.03, quality=0.61),
    trial(None, 0.52, 1.0),
    trial(990, 0.40, 1.04, quality=0.61),
    trial(None, 0.54, 1.0, is_sentinel=True),
    trial(990, 0.42, 1.05, quality=0.61),
    trial(None, 0.56, 1.0, is_sentinel=True),
    trial(990, 0.10, 1.04, verdicts=["clock_not_held", "trace_gap"]),
    # 345 MHz: two repeats, after the last default-clock trial: 1.56 / 0.56
    trial(345, 1.55, 3.0, verdicts=["trace_gap"]),
    trial(345, 1.57, 3.0, verdicts=["trace_gap"]),
    trial(1500, None, 1.0, status="failed", error="engine died:\nout of memory", energy_j=None),
    # a loglikelihood task without a score, with the default clock best
    *(
        trial(clock, joules, 0.5, block_id="cloze", task="tiny_cloze", request_kind="loglikelihood", tpot_s_p50=None,
              output_tokens_per_s=None, quality=None, quality_stderr=None, quality_metric=None,
              quality_reason="random weights answer nothing")
        for clock, joules in ((None, 0.0081), (990, 0.0125))
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_report_looks_as_it_did(width, render, check_golden):
    check_golden(f"report_{width}", render(render_report(study_trials(TRIALS), MANIFEST, width), width, 100), width)


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_agree_with_arithmetic_by_hand(width, render):
    text = render(render_report(study_trials(TRIALS), MANIFEST, width), width, 100)
    [row] = [line for line in text.splitlines() if line.startswith("▸      990")]
    ratios = [0.38 / math.sqrt(0.50 * 0.52), 0.40 / math.sqrt(0.52 * 0.54), 0.42 / math.sqrt(0.54 * 0.56)]
    assert geometric_mean(ratios) - 1 == pytest.approx(-0.245, abs=0.0005)
    assert row.split()[:5] == ["▸", "990", "→", "990", "0.400"]
    assert f" {MINUS}24.5 ±" in row
    assert " +4.0 ±" in row
    assert ("3/4" in row) == (width == 120)
    [slow] = [line for line in text.splitlines() if line.startswith("!      345")]
    assert "1.560" in slow
    assert "+179 ± 53" in slow  # 1.56 / 0.56, told apart by the default clock's spread
    assert "+200.0" in slow
    assert "13 trials, 9 sound, 3 with verdicts, 1 failed, 1.20 kJ measured" in text


def test_every_table_of_a_simulated_run_says_so(render):
    text = render(render_report(study_trials(TRIALS), MANIFEST, 80), 80, 100)
    assert text.count("in flight · SIMULATED GPU") == 2
    real = TRIALS.with_columns(simulated=pl.lit(False))
    assert "SIMULATED" not in render(render_report(study_trials(real), MANIFEST, 80), 80, 100)


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 90, 100, 110, 120, 160])
def test_no_number_is_cut_at_any_width(width, render):
    text = render(render_report(study_trials(TRIALS), MANIFEST, width), width, 100)
    assert "…" not in text
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "0.400" in text
    assert "0.0081" in text


def test_columns_give_way_by_rank_and_are_named(render):
    points = summarise_operating_points(TRIALS).filter(task="tiny_qa").to_dicts()
    columns = build_columns(points)
    assert fit_columns(columns, 1000) == (columns, [])
    kept, dropped = fit_columns(columns, 80)
    assert {"energy", "change of the energy", "latency", "change of the latency", "quality"} <= {c.name for c in kept}
    assert dropped[0] == "verdicts by row"
    text = " ".join(render(render_report(study_trials(TRIALS), MANIFEST, 80), 80, 100).split())
    assert "Left out for lack of width: mean power, " in text
    assert "A wider terminal shows them, and sweep report --csv or --json writes them." in text


def test_all_blocks_stand_side_by_side_at_the_default_clock(render):
    text = render(render_report(study_trials(TRIALS), MANIFEST, 120), 120, 100)
    _, _, table = text.partition("at the default clock · SIMULATED GPU")
    lines = [line.split() for line in table.splitlines()[1:5]]
    headers = "task model in flight SM MHz J/token J/prompt token ± tokens/s latency s TPOT ms power W quality n"
    assert " ".join(lines[0]) == headers
    assert lines[2] == ["tiny_cloze", "small", "4", "1980", "–", "0.00810", "–", "–", "0.500", "–", "500", "–", "1"]
    assert lines[3] == [
        "tiny_qa",
        "small",
        "4",
        "1980",
        "0.530",
        "–",
        "0.041",
        "128",
        "1.00",
        "31.2",
        "500",
        "0.620",
        "4",
    ]
    one = study_trials(TRIALS.filter(task="tiny_qa"))
    assert "at the default clock ·" not in render(render_report(one, MANIFEST, 120), 120, 100)


def test_blocks_that_ran_at_the_default_clock_alone_share_their_tables(render):
    phases = {"joules_per_prefill_token": 0.0123, "joules_per_decode_token": 0.456, "phase_method": "output_lengths"}
    rows = [trial(None, joules, 1.0, task=task, block_id=task, quality_chance=0.6, **phases)
            for task in "ab" for joules in (0.5, 0.51, 0.52)]  # fmt: skip
    text = render(render_report(study_trials(frame(*rows)), MANIFEST, 80), 80, 100)
    assert text.count("a on small, 4 in flight") == 2  # in the first sentence and in the warning about guessing
    assert "a on small, 4 in flight: quality is no better than guessing (0.600)" in text
    assert "quality: exact_match (a), exact_match (b)" in text
    assert text.count("12.3") == text.count("456") == 2
    assert "▸" not in text
    assert "Δ" not in text
    assert "TPOT" in text.partition("Left out for lack of width: ")[2]
    alone = render(render_report(study_trials(frame(*rows[:3])), MANIFEST, 80), 80, 100)
    assert "a on small, 4 in flight: 0.510 J/token at the default clock; no other" in " ".join(alone.split())
    assert not {"▸", "Δ", "base"} & set(alone.split())


def test_prefill_energy_is_not_said_twice(render):
    rows = [trial(clock, joules, 1.0, phase_method="all_prefill", joules_per_prefill_token=joules)
            for clock, joules in ((None, 0.5), (990, 0.4))]  # fmt: skip
    assert "prefill mJ" not in render(render_report(study_trials(frame(*rows)), MANIFEST, 120), 120, 100)


def test_axes_are_shown_only_where_they_vary(render):
    assert "limit W" not in render(render_report(study_trials(TRIALS), MANIFEST, 160), 160, 100)
    capped = frame(trial(None, 0.5, 1.0), trial(990, 0.4, 1.0, power_limit_w_requested=400.0))
    text = render(render_report(study_trials(capped), MANIFEST, 160), 160, 100)
    assert "limit W" in text
    assert "least energy at 990 MHz, limit 400 W" in text


def test_several_gpus_are_not_compared_silently(render):
    two = TRIALS.with_columns(gpu_uuids=pl.when(task="tiny_qa").then(pl.lit(["A"])).otherwise(pl.lit(["B"])))
    text = render(render_report(study_trials(two), MANIFEST, 80), 80, 100)
    assert "(simulated), 2 GPUs" in text
    assert "between rows of different GPUs, less than that says nothing" in text
    assert re.search(r"^tiny_qa +small +4 +A ", text, re.MULTILINE)
    assert re.search(r"^tiny_cloze +small +4 +B ", text, re.MULTILINE)
    assert "tiny_qa on small, 4 in flight · A" in text
    assert "tiny_cloze on small, 4 in flight · B" in text


def test_gpus_are_named_by_as_much_of_their_uuids_as_tells_them_apart(render):
    uuids = ("GPU-1a2b3c4d-0000", "GPU-1a2b3c4d-0001")
    trials = frame(*(trial(None, 0.5, 1.0, block_id=uuid, gpu_uuids=[uuid]) for uuid in uuids))
    text = render(render_report(study_trials(trials), MANIFEST, 120), 120, 100)
    assert all(re.search(rf"^tiny_qa +small +4 +{uuid} ", text, re.MULTILINE) for uuid in uuids)
    trials = frame(*(trial(None, 0.5, 1.0, block_id=uuid, gpu_uuids=[uuid]) for uuid in (uuids[0], "GPU-9-0")))
    assert " GPU-1a2b3c4d  " in render(render_report(study_trials(trials), MANIFEST, 120), 120, 100)


def models(gpu: str, large: float = 1.0) -> pl.DataFrame:
    return frame(
        *(
            trial(None, joules, 1.0, model=model, block_id=model, gpu_uuids=[uuid], joules_per_request=100 * joules)
            for model, uuid, level in (("small", "A", 0.5), ("large", gpu, large))
            for joules in (0.99 * level, level, 1.01 * level)
        )
    )


def test_models_are_compared_per_request_and_more_widely_between_gpus(render):
    one, two = (render(render_report(study_trials(models(gpu)), MANIFEST, 120), 120, 100) for gpu in "AB")
    two = " ".join(two.split())
    assert "4 in flight: large needs 2.00 times the joules per request of small (95 %: 1.93 to 2.07)." in one
    assert "times the joules per request of small (95 %: 1.88 to 2.13, on GPUs that may differ by 5 %)" in two
    alike = render(render_report(study_trials(models("B", large=0.51)), MANIFEST, 120), 120, 100)
    assert "large and small cannot be told apart by joules per request: 1.02 (95 %: 0.96 to 1.08, on" in alike
    assert "models, each at its least energy" not in render(
        render_report(study_trials(TRIALS), MANIFEST, 120), 120, 100
    )


def test_models_that_cut_prompts_are_compared_on_equal_samples(render):
    cut = frame(trial(None, 0.5, 1.0, num_requests=40, num_truncated_requests=28, quality=0.2, quality_metric="rougeL"))
    rows = [
        {"task": "qa", "model": "long", "num_samples": 40, "num_truncated_samples": 0, "num_common_samples": 12,
         "quality": 0.25, "quality_stderr": 0.031},
        {"task": "qa", "model": "short", "num_samples": 40, "num_truncated_samples": 28, "num_common_samples": 12,
         "reason": "its metric is no mean over samples"},
    ]  # fmt: skip
    study = replace(study_trials(cut), common_quality=pl.DataFrame(rows, schema=COMMON_QUALITY))
    text = render(render_report(study, MANIFEST, 120), 120, 100)
    assert "70 % of the prompts were cut from the left to fit the model" in text
    assert "quality of models, on the samples that no model had to cut" in text
    assert "qa on long: 0.250 ± 0.031 on the 12 that all models had whole; 0 of its 40 samples were cut" in text
    assert "qa on short: not compared, its metric is no mean over samples; 28 of its 40" in text
    assert "quality of models" not in render(render_report(study_trials(cut), MANIFEST, 120), 120, 100)


def test_prefill_and_decode_have_a_table_where_they_were_measured(render):
    phases = {"joules_per_prefill_token": 0.0123, "joules_per_prefill_token_low": 0.0119,
              "joules_per_prefill_token_high": 0.0127, "joules_per_decode_token": 0.456,
              "joules_per_decode_token_low": 0.446, "joules_per_decode_token_high": 0.466,
              "phase_method": "output_lengths"}  # fmt: skip
    rows = [trial(None, 0.5, 1.0, **phases), trial(990, 0.4, 1.0, phase_reason="no trials made for it")]
    text = render(render_report(study_trials(frame(*rows)), MANIFEST, 80), 80, 100)
    assert "prefill and decode per token, by output_lengths" in text
    [line] = [line for line in text.splitlines() if "12.3" in line]
    assert line.split() == ["default", "→", "1980", "12.3", "0.40", "456", "10"]
    assert "No prefill and decode energy: no trials made for it" in text
    assert "prefill" not in render(render_report(study_trials(TRIALS), MANIFEST, 120), 120, 100)


def test_what_the_sensor_does_not_see_is_said(render):
    trials = TRIALS.with_columns(energy_uncertainty_j=pl.lit(0.3))
    assert "does not see: up to 0.3 % of a trial's energy" in render(
        render_report(study_trials(trials), MANIFEST, 80), 80, 100
    )


def test_problems_are_counted_and_explained(render):
    text = render(render_report(study_trials(TRIALS), MANIFEST, 120), 120, 100)
    assert "3 trials  trace_gap: power samples are missing" in text
    assert "1 trial  clock_not_held: " in text
    assert "1 trial  engine died: out of memory" in text


def test_an_empty_run_says_so(render):
    assert render(render_report(study_trials(frame()), MANIFEST, 80), 80, 24) == "No trial has finished yet.\n"


def sentence(*rows: dict) -> str:
    return describe_block(summarise_operating_points(frame(*rows)).to_dicts())


def test_sentence_states_energy_time_and_quality():
    rows = [
        trial(None, 0.52, 1.0, quality=0.62),
        trial(990, 0.40, 1.04, quality=0.61),
        trial(None, 0.52, 1.0, quality=0.62),
    ]
    assert sentence(*rows) == (
        "tiny_qa on small, 4 in flight: least energy at 990 MHz: 0.400 J/token, 23.1 ± 0.0 % less than the default "
        "clock, 4.0 ± 0.0 % slower, quality unchanged within its error."
    )


def test_sentence_says_that_one_trial_each_shows_no_spread():
    text = sentence(trial(None, 0.52, 1.0), trial(990, 0.40, 1.04))
    assert "23.1 % less than the default clock, 4.0 % slower" in text
    assert "How sure the saving is cannot be told: too few trials on one GPU" in text


@pytest.mark.parametrize(("saving", "is_one"), [(0.97, False), (0.80, True)])
def test_sentence_does_not_claim_a_saving_inside_the_error(saving, is_one):
    noise = (1.05, 0.95, 1.02)
    rows = [
        trial(clock, 0.5 * factor * (1.0 if clock is None else saving), 1.0 * factor)
        for factors in zip(noise, reversed(noise), strict=True)
        for clock, factor in zip((None, 1500), factors, strict=True)
    ]
    text = sentence(*rows)
    assert ("% less than the default clock" in text) == is_one
    assert (f"no different from the default clock within the error ({MINUS}" in text) == (not is_one)
    assert "as fast" in text


def test_sentence_names_a_default_clock_on_another_gpu():
    rows = [trial(None, 0.5, 1.0), trial(None, 0.5, 1.0), trial(990, 0.4, 1.0, gpu_uuids=["SIM-1"])]
    text = sentence(*rows)
    assert "20.0 ± 4.0 % less" in text  # 5 % of 0.8
    assert "The default clock ran on another GPU" in text


def test_sentence_when_the_default_is_best_alone_or_missing():
    assert "least energy at the default clock: 0.500 J/token; no other" in sentence(
        trial(None, 0.5, 1.0), trial(990, 0.6, 1.2)
    )
    assert "0.500 J/token at the default clock; no other operating point was measured" in sentence(
        trial(None, 0.5, 1.0)
    )
    assert "no default-clock trial" in sentence(trial(750, 0.5, 1.0), trial(990, 0.6, 1.2))
    assert "nothing can be said" in sentence(trial(None, 0.5, 1.0, verdicts=["trace_gap"]))
    unsound = trial(None, 0.5, 1.0, verdicts=["trace_gap"])
    assert "do not trust the comparison" in sentence(unsound, trial(990, 0.4, 1.0), trial(1500, 0.45, 1.0))
    assert "0.400 J/token at 990 MHz, which alone has a sound trial, so nothing" in sentence(
        unsound, trial(990, 0.4, 1.0)
    )


def test_time_falls_back_to_throughput():
    rows = [trial(clock, joules, 1.0, latency_s_p50=None, requests_per_s=rate)
            for clock, joules, rate in ((None, 0.5, 5.0), (990, 0.4, 4.0))]  # fmt: skip
    assert "25.0 % slower" in sentence(*rows)


@pytest.mark.parametrize(
    ("difference", "stderr", "higher", "text"),
    [
        (0.0, 0.03, True, "quality the same"),
        (-0.02, 0.03, True, "quality unchanged within its error"),
        (-0.05, 0.03, True, f"quality worse ({MINUS}0.050 ± 0.030)"),
        (-0.05, 0.03, False, f"quality better ({MINUS}0.050 ± 0.030)"),
        (0.05, None, True, "quality +0.050 (its error is not known)"),
        (None, None, None, "quality not known (no weights)"),
    ],
)
def test_quality_is_judged_by_its_error(difference, stderr, higher, text):
    point = {
        "quality_difference": difference,
        "quality_difference_stderr": stderr,
        "quality_higher_is_better": higher,
        "quality_reason": "no weights",
    }
    assert describe_quality(point) == text
