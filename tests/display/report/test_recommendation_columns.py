"""The table of what to set for each block."""

from runner.analysis.study import study_trials
from runner.display.report.recommendation_columns import mark_recommendations, recommendation_columns
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES

MINUS = "\N{MINUS SIGN}"


def recommendations(*rows: dict) -> list[list[str]]:
    frames = study_trials(frame(*rows)).recommendations
    columns = recommendation_columns(frames)
    return [[column.header for column in columns], *map(list, zip(*(column.cells for column in columns), strict=True))]


def test_a_row_says_what_to_set_and_what_that_changes():
    headers, row = recommendations(*block(CHANGES))
    assert headers == ["task", "model", "in flight", "set", "energy", "time", "energy-delay", "evidence"]
    assert row[:4] == ["qa", "small", "4", "990 MHz"]
    assert row[4].startswith(f"{MINUS}20.0 ± ")
    assert row[5:] == ["+10.0 %", "1500 MHz", "shown"]


def test_the_default_clock_is_the_base():
    _, row = recommendations(*block({990: (1.5, 1.0)}))
    assert row[3:6] == ["default", "base", "base"]
    assert row[-1].startswith("the default is best")


def test_a_block_without_a_recommendation_has_no_numbers():
    unsound = trial(None, 1.0, task="d", block_id="d", verdicts=["trace_gap"])
    headers, row, other = recommendations(*block(CHANGES), unsound)
    assert other[0] == "qa"
    assert dict(zip(headers, row, strict=True)) | {"evidence": ""} == {
        "task": "d", "model": "small", "in flight": "4", "set": "–", "energy": "–", "time": "–", "energy-delay": "–",
        "evidence": "",
    }  # fmt: skip


def test_a_shown_saving_is_good_and_an_unshown_one_in_doubt():
    thin = [trial(clock, joules, task="t", block_id="t") for clock, joules in ((None, 1.0), (990, 0.7))]
    unsound = trial(None, 1.0, task="u", block_id="u", verdicts=["trace_gap"])
    study = study_trials(frame(*block(CHANGES), *thin, unsound))
    assert sorted(mark_recommendations(study.recommendations)) == ["", "doubt", "good"]
