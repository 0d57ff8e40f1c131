"""Tables on terminals of any width."""

from runner.analysis.run.summary import summarise_operating_points
from runner.analysis.study import study_trials
from runner.display.report.columns import build_columns
from runner.display.report.terminal_table import fit_columns
from tests.display.trials import TRIALS


def test_columns_give_way_by_rank_and_are_named(draw_report):
    points = summarise_operating_points(TRIALS).filter(task="tiny_qa").to_dicts()
    columns = build_columns(points)
    assert fit_columns(columns, 1000) == (columns, [])
    kept, dropped = fit_columns(columns, 80)
    assert {"energy", "change of the energy", "latency", "change of the latency", "quality"} <= {c.name for c in kept}
    assert dropped[0] == "verdicts by row"
    text = " ".join(draw_report(study_trials(TRIALS), 80).split())
    assert "Left out for lack of width: mean power, " in text
    assert "A wider terminal shows them, and sweep report --csv or --json writes them." in text
