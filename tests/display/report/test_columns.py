"""The columns of the tables of operating points."""

from runner.analysis.study import study_trials
from tests.display.trials import TRIALS, frame, trial


def test_axes_are_shown_only_where_they_vary(draw_report):
    assert "limit W" not in draw_report(study_trials(TRIALS), 160)
    capped = frame(trial(None, 0.5, 1.0), trial(990, 0.4, 1.0, power_limit_w_requested=400.0))
    text = draw_report(study_trials(capped), 160)
    assert "limit W" in text
    assert "least energy at 990 MHz, limit 400 W" in text
