"""The notes below a block's table."""

import polars as pl

from runner.analysis.study import study_trials
from runner.display.text.notes import (
    choose_phased,
    describe_defaults,
    describe_gaps,
    describe_marks,
    mark_point,
    warn_of_guessing,
)
from tests.display.trials import TRIALS, frame, trial


def test_what_the_sensor_does_not_see_is_said(draw_report):
    trials = TRIALS.with_columns(energy_uncertainty_j=pl.lit(0.3))
    assert "energy uncertainty: up to 0.3 % of a trial's energy" in draw_report(study_trials(trials), 80)


def test_marks_are_explained_where_they_stand() -> None:
    study = study_trials(TRIALS)
    points = study.points.filter(task="tiny_qa").to_dicts()
    assert {mark_point(point) for point in points} == {"▸", "!", ""}
    marks, quality = describe_marks(points)
    assert marks == (
        "▸ least energy of the sound ones · ! every trial has a verdict or failed: do not trust the row · "
        "n: trials averaged/trials run · ±: 95 % interval; Δ: change from the default clock just before and after"
    )
    assert quality == "quality: exact_match, ± one standard error"
    [alone] = [point for point in points if point["is_default"]]
    assert next(describe_marks([alone])) == "±: 95 % interval"


def test_what_is_missing_has_a_reason() -> None:
    points = study_trials(TRIALS).points.filter(task="tiny_cloze").to_dicts()
    assert "no quality: random weights answer nothing" in list(describe_marks(points))
    assert "no quality: random weights answer nothing" in list(describe_defaults(points[:1]))


def test_a_score_no_better_than_guessing_is_named() -> None:
    points = study_trials(frame(trial(None, 0.5, 1.0, quality_chance=0.6))).points.to_dicts()
    assert warn_of_guessing(points) == "quality is no better than guessing (0.600)"
    assert warn_of_guessing(study_trials(TRIALS).points.to_dicts()) is None


def test_gaps_of_the_whole_run_are_said_once() -> None:
    rows = [trial(clock, 0.5, 1.0, phase_reason="they\noverlap") for clock in (None, 990)]
    assert list(describe_gaps(study_trials(frame(*rows)))) == ["No prefill and decode energy: they overlap"]


def test_only_prefill_needs_no_table_of_phases() -> None:
    points = study_trials(frame(trial(None, 0.5, 1.0, phase_method="all_prefill"))).points.to_dicts()
    assert choose_phased(points) == []
