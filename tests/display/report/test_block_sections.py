"""Blocks side by side at the default clock, and every operating point of each, as a terminal shows them."""

import re

import polars as pl

from runner.analysis.study import study_trials
from tests.display.trials import TRIALS, frame, trial


def test_all_blocks_stand_side_by_side_at_the_default_clock(draw_report):
    text = draw_report(study_trials(TRIALS), 120)
    _, _, table = text.partition("At the default clock · SIMULATED GPU")
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
    assert "At the default clock ·" not in draw_report(one, 120)


def test_blocks_that_ran_at_the_default_clock_alone_share_their_tables(draw_report):
    phases = {"joules_per_prefill_token": 0.0123, "joules_per_decode_token": 0.456, "phase_method": "output_lengths"}
    rows = [trial(None, joules, 1.0, task=task, block_id=task, quality_chance=0.6, **phases)
            for task in "ab" for joules in (0.5, 0.51, 0.52)]  # fmt: skip
    text = draw_report(study_trials(frame(*rows)), 80)
    assert text.count("a on small, 4 in flight") == 2  # in the first sentence and in the warning about guessing
    assert "a on small, 4 in flight: quality is no better than guessing (0.600)" in text
    assert "quality: exact_match (a), exact_match (b)" in text
    assert text.count("12.3") == text.count("456") == 2
    assert "▸" not in text
    assert "Δ" not in text
    assert "TPOT" in text.partition("Left out for lack of width: ")[2]
    alone = draw_report(study_trials(frame(*rows[:3])), 80)
    assert "a on small, 4 in flight: 0.510 J/token at the default clock; no other" in " ".join(alone.split())
    assert not {"▸", "Δ", "base"} & set(alone.split())


def test_prefill_energy_is_not_said_twice(draw_report):
    rows = [trial(clock, joules, 1.0, phase_method="all_prefill", joules_per_prefill_token=joules)
            for clock, joules in ((None, 0.5), (990, 0.4))]  # fmt: skip
    assert "prefill mJ" not in draw_report(study_trials(frame(*rows)), 120)


def test_prefill_and_decode_have_a_table_where_they_were_measured(draw_report):
    phases = {"joules_per_prefill_token": 0.0123, "joules_per_prefill_token_low": 0.0119,
              "joules_per_prefill_token_high": 0.0127, "joules_per_decode_token": 0.456,
              "joules_per_decode_token_low": 0.446, "joules_per_decode_token_high": 0.466,
              "phase_method": "output_lengths"}  # fmt: skip
    rows = [trial(None, 0.5, 1.0, **phases), trial(990, 0.4, 1.0, phase_reason="no trials made for it")]
    text = draw_report(study_trials(frame(*rows)), 80)
    assert "prefill and decode energy per token, by output_lengths" in text
    [line] = [line for line in text.splitlines() if "12.3" in line]
    assert line.split() == ["default", "→", "1980", "12.3", "0.40", "456", "10"]
    assert "No prefill and decode energy: no trials made for it" in text
    assert "prefill" not in draw_report(study_trials(TRIALS), 120)


def test_several_gpus_are_not_compared_silently(draw_report):
    two = TRIALS.with_columns(gpu_uuids=pl.when(task="tiny_qa").then(pl.lit(["A"])).otherwise(pl.lit(["B"])))
    text = draw_report(study_trials(two), 80)
    assert "(simulated), 2 GPUs" in text
    assert "Between rows of different GPUs, a smaller difference means nothing." in " ".join(text.split())
    assert re.search(r"^tiny_qa +small +4 +A ", text, re.MULTILINE)
    assert re.search(r"^tiny_cloze +small +4 +B ", text, re.MULTILINE)
    assert "tiny_qa on small, 4 in flight · A" in text
    assert "tiny_cloze on small, 4 in flight · B" in text


def test_gpus_are_named_by_as_much_of_their_uuids_as_tells_them_apart(draw_report):
    uuids = ("GPU-1a2b3c4d-0000", "GPU-1a2b3c4d-0001")
    trials = frame(*(trial(None, 0.5, 1.0, block_id=uuid, gpu_uuids=[uuid]) for uuid in uuids))
    text = draw_report(study_trials(trials), 120)
    assert all(re.search(rf"^tiny_qa +small +4 +{uuid} ", text, re.MULTILINE) for uuid in uuids)
    trials = frame(*(trial(None, 0.5, 1.0, block_id=uuid, gpu_uuids=[uuid]) for uuid in (uuids[0], "GPU-9-0")))
    assert " GPU-1a2b3c4d  " in draw_report(study_trials(trials), 120)
