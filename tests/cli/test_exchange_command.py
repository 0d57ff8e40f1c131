"""`sweep export` and `sweep import` of vLLM's results: what a person types, and what lies there then."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from runner.cli import app
from tests.results.exchange.runs import write_run
from tests.results.exchange.samples import FOLDER


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("runner.display.report.page.load_vega", lambda: "")  # bundling takes seconds


def test_an_export_says_what_it_wrote_and_what_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    result = sweep("export", tmp_path / "run", "--format", "vllm-bench", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"4 trials in 6 files written to {tmp_path / 'out'}\n"
    assert "sweep: note: vllm-bench: generated_texts are left out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "csv"], "--format = 'csv' is not allowed: give vllm-bench or mlenergy or inferencex"),
        (["--format", "inferenceX"], 'did you mean "inferencex"?'),
        ([], "--format"),
    ],
)
def test_a_wrong_export_is_explained(tmp_path: Path, arguments: list[str], words: str) -> None:
    write_run(tmp_path / "run")
    result = sweep("export", tmp_path / "run", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_a_run_that_is_not_there_is_explained(tmp_path: Path) -> None:
    result = sweep("export", tmp_path, "--format", "mlenergy")
    assert result.exit_code == 2
    assert "holds no run" in result.stderr


def test_an_imported_grid_cannot_be_exported_and_says_why(tmp_path: Path) -> None:
    grid = Path(__file__).parents[2] / "reference" / "rtx5090_clock_grid.csv"
    assert sweep("import", grid, "--out", tmp_path / "grid").exit_code == 0
    result = sweep("export", tmp_path / "grid", "--format", "vllm-bench")
    assert result.exit_code == 2
    assert "56 trials are left out: no window and no requests are known, as in an imported table" in result.stderr


def test_results_of_vllm_are_imported_and_say_that_they_have_no_energy(tmp_path: Path) -> None:
    result = sweep("import", FOLDER / "vllm_serve.json", "--out", tmp_path / "theirs")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert (
        "Imported from vllm_serve.json: measured elsewhere, and not checked by a power trace. It has no energy" in text
    )
    assert "no recommendation, since no sound trial with an energy reading" in text
    manifest = json.loads((tmp_path / "theirs" / "manifest.json").read_text())
    assert manifest["imported"]["energy_reason"] == "vllm bench serve measures no energy"
    priced = sweep("report", tmp_path / "theirs", "--price", "0.25/kWh", "--json")
    (cost,) = json.loads(priced.stdout)["costs"]
    assert (cost["cost_per_million_tokens"], cost["reason"]) == (None, "no energy was read")


def test_our_export_of_a_simulated_run_is_imported_as_simulated(tmp_path: Path) -> None:
    write_run(tmp_path / "run", simulated=True)
    assert sweep("export", tmp_path / "run", "--format", "vllm-bench", "--out", tmp_path / "out").exit_code == 0
    result = sweep("import", tmp_path / "out", "--out", tmp_path / "back")
    assert result.exit_code == 0, result.output
    assert "SIMULATED GPU" in result.stdout
    assert "stand for it" not in result.stdout  # the export tells the default clock by its name
    assert json.loads((tmp_path / "back" / "manifest.json").read_text())["simulated"] is True


def test_a_wrong_result_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"model_id": "m"}')
    result = sweep("import", tmp_path / "bad.json", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.json, result 1: duration, completed, total_output_tokens, output_throughput is missing" in result.stderr
    assert not (tmp_path / "out").exists()


def test_clocks_that_a_person_wrote_as_metadata_are_compared(tmp_path: Path) -> None:
    theirs = json.loads((FOLDER / "vllm_serve.json").read_text())
    runs = [
        theirs | {"sm_clock_mhz": clock, "mean_power_w": watts} for clock, watts in (("1980", "300"), ("1200", "200"))
    ]
    (tmp_path / "clocks.json").write_text(json.dumps(runs))
    result = sweep("import", tmp_path / "clocks.json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "It names no default clock; its highest clocks (SM 1980 MHz) stand for it." in text
    assert "It has no energy" not in text
    assert "least at 1200 MHz (−33.3 %" in text
