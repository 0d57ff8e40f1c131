"""A run that is opened from Python: what it says, and what it leaves for other tools."""

from pathlib import Path

import pytest

import runner
from runner.execution.driver.importing import import_published
from runner.results.run_directory import RunStore
from tests.results.exchange.runs import write_run

GRID = Path(__file__).parents[1] / "reference" / "rtx5090_clock_grid.csv"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("grid")
    with RunStore(directory) as store:
        import_published(GRID, store, "")
    return directory


def test_a_study_has_limits_and_a_tariff_as_the_command_line_has_them(directory: Path) -> None:
    study = runner.open_run(directory).study(max_slowdown="10%", price="0.25 EUR/kWh", pue=1.2)
    assert study.limits.max_slowdown == 0.1
    assert (study.tariff.currency, study.tariff.pue) == ("EUR", 1.2)
    assert study.costs.height == study.points.height == 56
    ratio = study.costs["kwh_per_million_tokens"] / study.points["joules_per_token"]
    assert ratio.to_list() == pytest.approx([1.2 / 3.6] * 56)
    with pytest.raises(ValueError, match="--carbon = '380' is not allowed"):
        runner.open_run(directory).study(carbon="380")


def test_an_export_is_written_where_asked(tmp_path: Path) -> None:
    written = runner.open_run(write_run(tmp_path / "run").directory).export("inferencex", tmp_path / "out")
    assert (written.num_trials, written.folder) == (4, tmp_path / "out")
    assert all((tmp_path / "out" / path).is_file() for path in written.files)
