"""`sweep import` and `sweep report` on the published grid: what a person types, and what lies there then."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from runner.cli import app

ROOT = Path(__file__).parents[2]
GRID = ROOT / "reference" / "rtx5090_clock_grid.csv"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("runner.display.report.page.load_vega", lambda: "")  # bundling takes seconds
    result = sweep("import", GRID, "--out", tmp_path / "grid")
    assert result.exit_code == 0, result.output
    assert "What to do" in result.stdout
    assert "Imported from rtx5090_clock_grid.csv" in result.stdout
    return tmp_path / "grid"


def test_an_import_is_reported_like_a_run(run: Path) -> None:
    assert "<h2>What to do</h2>" in (run / "report.html").read_text()
    result = sweep("report", run)
    assert result.exit_code == 0, result.output
    assert "56 trials, 52 sound, 4 with verdicts" in result.stdout
    assert "with report.html" in result.stdout


def test_json_writes_no_page_as_its_help_says(run: Path) -> None:
    assert "with --json it prints alone and writes no page" in " ".join(sweep("report", "--help").stdout.split())
    (run / "report.html").unlink()
    assert json.loads(sweep("report", run, "--json").stdout)
    assert not (run / "report.html").exists()


def test_limits_change_what_is_recommended(run: Path) -> None:
    text = " ".join(sweep("report", run, "--max-slowdown", "10%").stdout.split())
    assert "Within the limits: least at 2602 MHz, memory 14001 MHz (−18.0 %, +9.9 % in time), but do not rely" in text
    assert "Within the limits: keep the default clock; beside it, no operating point that was measured keeps" in text
    summary = json.loads(sweep("report", run, "--max-slowdown", "10%", "--json").stdout)
    assert summary["limits"]["max_slowdown"] == 0.1
    chosen = {
        row["task"]: row["sm_clock_mhz_requested"] for row in summary["recommendations"] if row["goal"] == "energy"
    }
    assert chosen == {"code": 2602, "narrative": None}


def test_a_negative_limit_is_a_value_and_no_option(run: Path) -> None:
    result = sweep("report", run, "--min-quality-change", "-0.5%")
    assert result.exit_code == 0, result.output
    assert "quality (not known)" in " ".join(result.stdout.split())


def test_a_limit_that_cannot_be_read_is_explained(run: Path) -> None:
    result = sweep("report", run, "--max-tpot", "50")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "sweep: --max-tpot = '50' is not allowed: give a time above 0 with its unit, such as 50ms or 0.05s\n"
    )


def test_a_tariff_prices_every_operating_point(run: Path) -> None:
    tariff = ("--price", "0.25 EUR/kWh", "--carbon", "380 g/kWh", "--pue", "1.2")
    result = sweep("report", run, *tariff)
    assert result.exit_code == 0, result.output
    assert "Money and carbon" in result.stdout
    assert "Tariff: 0.25 EUR/kWh, 380 g CO2/kWh, PUE 1.2." in result.stdout
    assert "<h2>Money and carbon</h2>" in (run / "report.html").read_text()
    summary = json.loads(sweep("report", run, *tariff, "--json").stdout)
    assert summary["tariff"] == {"price_per_kwh": 0.25, "currency": "EUR", "carbon_g_per_kwh": 380.0, "pue": 1.2}
    assert len(summary["costs"]) == len(summary["points"])
    for point, cost in zip(summary["points"], summary["costs"], strict=True):
        kwh = point["joules_per_token"] * 1e6 / 3.6e6 * 1.2
        assert cost["kwh_per_million_tokens"] == pytest.approx(kwh)
        assert cost["cost_per_million_tokens"] == pytest.approx(0.25 * kwh)
        assert cost["co2_g_per_million_tokens"] == pytest.approx(380 * kwh)
    assert json.loads(sweep("report", run, "--json").stdout)["costs"] == []


@pytest.mark.parametrize(
    ("option", "value"), [("--price", "0.25"), ("--price", "-1/kWh"), ("--carbon", "380"), ("--pue", "0.9")]
)
def test_a_tariff_that_cannot_be_read_is_explained(run: Path, option: str, value: str) -> None:
    result = sweep("report", run, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"sweep: {option} = '{value}' is not allowed: give ")
    assert result.stderr.count("\n") == 1


def test_a_run_refuses_a_wrong_tariff_before_it_starts(tmp_path: Path) -> None:
    result = sweep("run", ROOT / "sweeps" / "demo.toml", "--price", "0.25", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "sweep: --price = '0.25' is not allowed" in result.stderr
    assert not (tmp_path / "run").exists()


def test_tables_and_pictures_are_written_where_asked_for(run: Path) -> None:
    assert not (run / "tables").exists()
    result = sweep("report", run, "--csv", "--plots", "svg", "--json")
    assert result.exit_code == 0, result.output
    tables = {path.stem: pl.read_csv(path) for path in (run / "tables").iterdir()}
    assert set(tables) == {"points", "recommendations", "mixed_loads", "pareto", "verdicts"}  # the others are empty
    summary = json.loads(result.stdout)
    assert {name: table.height for name, table in tables.items()} == {name: len(summary[name]) for name in tables}
    assert all(table["simulated"].to_list() == [False] * table.height for table in tables.values())
    assert tables["points"].filter(pl.col("verdicts") == "clock_not_held").height == 4
    assert {path.name for path in (run / "plots").iterdir()} == {
        f"{kind}-{task}.svg" for kind in ("energy", "throughput") for task in ("code", "narrative")
    } | {f"pareto-{task}-generate.svg" for task in ("code", "narrative")}


@pytest.mark.parametrize(("markup", "suffix", "words"), [("latex", "tex", r"\toprule"), ("markdown", "md", "| ---")])
def test_tables_for_a_paper_are_written_where_asked_for(run: Path, markup: str, suffix: str, words: str) -> None:
    result = sweep("report", run, "--tables", markup, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)
    tables = {path.name: path.read_text() for path in (run / "tables").iterdir()}
    assert set(tables) == {
        f"{name}.{suffix}"
        for name in (
            "what-to-do",
            "at-the-default-clock",
            *(f"{task}-on-rtx5090-clock-grid" for task in ("code", "narrative")),
        )
    }
    assert all(words in text for text in tables.values())
    assert "4 tables for a paper (tables/what-to-do" in " ".join(
        sweep("report", run, "--tables", markup).stdout.split()
    )


def test_an_unknown_markup_is_refused(run: Path) -> None:
    result = sweep("report", run, "--tables", "html")
    assert result.exit_code == 2
    assert "latex" in result.stderr
    assert "markdown" in result.stderr


def test_a_file_that_is_no_grid_is_explained(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("clock,power\n1,2\n")
    result = sweep("import", tmp_path / "bad.csv", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "column 'clock' is not known: allowed are sm_clock_mhz, " in result.stderr
    result = sweep("import", tmp_path / "nowhere.csv", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "nowhere.csv: no such file" in result.stderr


def test_numbers_alone_are_had_without_drawing() -> None:
    program = (
        "import sys\nimport runner.display.report.exports\nimport runner.display.report.reading\n"
        "import runner.display.report.terminal\n"
        "print([name for name in ('altair', 'vl_convert', 'jinja2', 'ray', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout == "[]\n"
