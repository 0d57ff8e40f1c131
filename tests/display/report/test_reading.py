"""What a report reads from a run directory; entities are counted in tests/execution/worker/test_input_costs.py."""

from pathlib import Path

from runner.analysis.advice.limits import NO_LIMITS, Limits
from runner.display.report.reading import read_study
from tests.display.studies import make_trials, write_run


def test_a_run_is_read_and_analysed(tmp_path: Path) -> None:
    store = write_run(tmp_path)
    store.write_manifest({"imported": {}, "sweep": {}, "options": {}})  # no sweep says which trials belong to it
    study = read_study(store, NO_LIMITS)
    assert study.trials.height == make_trials().height
    assert set(study.points["task"]) == {"qa", "cloze"}
    assert read_study(store, Limits(max_slowdown=0.05)).limits.max_slowdown == 0.05
