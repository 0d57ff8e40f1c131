"""What a report leaves for other programs; the commands are tested in tests/cli/test_report_command.py."""

import json
from pathlib import Path

import polars as pl
import pytest

from runner.analysis.study import study_trials
from runner.display.report import page as page_module
from runner.display.report.build import build_document
from runner.display.report.exports import format_json, write_page, write_tables
from runner.results.run_directory import RunStore
from tests.analysis.trial_rows import frame
from tests.display.studies import MANIFEST, make_study, write_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return write_run(tmp_path)


def test_json_has_every_table_and_the_limits() -> None:
    study = make_study()
    summary = json.loads(format_json(study, MANIFEST))
    assert {name: len(summary[name]) for name in study.tables()} == {
        name: table.height for name, table in study.tables().items()
    }
    assert set(summary["limits"].values()) == {None}


def test_tables_are_written_and_those_of_an_earlier_report_removed(store: RunStore) -> None:
    study = make_study()
    written = write_tables(store, study)
    assert sorted(written) == sorted(f"tables/{name}.csv" for name, table in study.tables().items() if table.height)
    points = pl.read_csv(store.directory / "tables" / "points.csv")
    assert points.filter(pl.col("verdicts") == "clock_not_held").height == 1
    assert points["simulated"].all()
    assert write_tables(store, study_trials(frame())) == []
    assert not list((store.directory / "tables").iterdir())


def test_the_page_is_written_with_its_plots(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "load_vega", lambda: "")
    study = make_study()
    assert write_page(store, study, build_document(study, MANIFEST)) == "report.html"
    page = (store.directory / "report.html").read_text(encoding="utf-8")
    assert "Energy per token against the clock" in page
    assert page.count("data-plot=") > 5
