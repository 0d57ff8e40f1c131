"""The report on the terminal; how it looks is in tests/display/golden/report_*.txt."""

import math
from statistics import geometric_mean

import polars as pl
import pytest
from rich.cells import cell_len

from runner.analysis.study import study_trials
from tests.display.trials import TRIALS, frame

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize("width", [80, 120])
def test_report_looks_as_it_did(width, draw_report, check_golden):
    check_golden(f"report_{width}", draw_report(study_trials(TRIALS), width), width)


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_agree_with_arithmetic_by_hand(width, draw_report):
    text = draw_report(study_trials(TRIALS), width)
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


def test_every_table_of_a_simulated_run_says_so(draw_report):
    text = draw_report(study_trials(TRIALS), 80)
    assert text.count("in flight · SIMULATED GPU") == 2
    real = TRIALS.with_columns(simulated=pl.lit(False))
    assert "SIMULATED" not in draw_report(study_trials(real), 80)


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 90, 100, 110, 120, 160])
def test_no_number_is_cut_at_any_width(width, draw_report):
    text = draw_report(study_trials(TRIALS), width)
    assert "…" not in text
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "0.400" in text
    assert "0.0081" in text


def test_an_empty_run_says_so(draw_report):
    assert draw_report(study_trials(frame()), 80).splitlines() == [
        "clocks-small: 0 trials, 0 sound",
        "",
        f"What to do {69 * '─'}",
        "No trial has finished yet.",
    ]
