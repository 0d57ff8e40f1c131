"""Money and carbon, as the document has them and as a terminal shows them."""

from dataclasses import replace

import polars as pl
import pytest

from runner.analysis.advice.costs import compute_costs
from runner.analysis.advice.tariff import parse_tariff
from runner.analysis.study import Study, study_trials
from runner.display.report.cost_section import cost_section
from runner.display.report.document import Section, Sentences, Table
from tests.analysis.trial_rows import block, frame
from tests.display.studies import make_trials
from tests.display.trials import TRIALS

TARIFF = parse_tariff(price="0.36 EUR/kWh", carbon="360 g/kWh", pue=1.25)


def make_study(trials: pl.DataFrame) -> Study:
    return study_trials(trials, tariff=TARIFF)


def section_of(study: Study) -> Section:
    section = cost_section(study)
    assert section is not None
    return section


def cells(section: Section) -> dict[str, tuple[str, ...]]:
    table = section.parts[0]
    assert isinstance(table, Table)
    return {column.header: column.cells for column in table.columns}


def test_without_a_tariff_there_is_no_section() -> None:
    assert cost_section(study_trials(TRIALS)) is None
    assert cost_section(make_study(TRIALS.clear())) is None


def test_a_block_stands_at_what_is_recommended_and_at_the_default_clock() -> None:
    section = section_of(make_study(frame(*block({990: (0.8, 1.1)}))))
    assert (section.title, section.notice) == ("Money and carbon", "")
    assert cells(section) == {
        "task": ("qa",),
        "model": ("small",),
        "in flight": ("4",),
        "set": ("990 MHz",),
        "kWh": ("0.278",),  # 0.8 MJ a million tokens x 1.25
        "kWh at default": ("0.347",),
        "EUR": ("0.100",),
        "EUR at default": ("0.125",),
        "g CO2": ("100",),
        "g CO2 at default": ("125",),
    }
    assert section.parts[0].row_marks == ("good",)  # type: ignore[union-attr]


def test_the_notes_name_denominators_and_what_is_left_out() -> None:
    section = section_of(make_study(frame(*block({990: (0.8, 1.1)}))))
    assert section.parts[-1] == Sentences(
        texts=(
            "Of a million output tokens. Tariff: 0.36 EUR/kWh, 360 g CO2/kWh, PUE 1.25.",
            "kWh are the energy of the GPU in the whole window, times the PUE of 1.25. "
            "The energy of the host is not in them.",
        ),
        emphasis="quiet",
    )


def test_where_nothing_is_recommended_the_default_clock_alone_has_numbers() -> None:
    section = section_of(make_study(frame(*block({}))))
    shown = cells(section)
    assert (shown["set"], shown["EUR at default"]) == (("–",), ("0.125",))
    assert "EUR" not in shown  # it would be unknown in every row


def test_tokens_of_two_kinds_are_told_apart_and_a_simulated_gpu_is_named() -> None:
    section = section_of(make_study(make_trials()))
    assert section.notice == "SIMULATED GPU"
    assert sorted(set(cells(section)["tokens"])) == ["output", "prompt"]
    notes = section.parts[-1]
    assert isinstance(notes, Sentences)
    assert notes.texts[0].startswith(
        "Of a million tokens: output tokens, or prompt tokens where a task generates none."
    )


def test_good_requests_have_a_table_of_their_own() -> None:
    study = make_study(frame(*block({990: (0.8, 1.1)})))
    points = study.points.with_columns(joules_per_good_request=100 * pl.col("joules_per_token"))
    section = section_of(replace(study, costs=compute_costs(points, TARIFF)))
    table = section.parts[1]
    assert isinstance(table, Table)
    assert {column.header: column.cells for column in table.columns if column.header.startswith("EUR")} == {
        "EUR/1,000 good requests": ("0.0100",),  # 80 J x 1,000 x 1.25 / 3.6 MJ x 0.36
        "EUR/1,000 good requests at default": ("0.0125",),
    }
    notes = section.parts[-1]
    assert isinstance(notes, Sentences)
    assert notes.texts[-1].startswith("A good request kept the SLO.")


@pytest.mark.parametrize("width", [80, 120])
def test_every_operating_point_has_its_price_on_the_terminal(draw_report, width: int) -> None:
    text = draw_report(make_study(frame(*block({990: (0.8, 1.1)}))), width)
    _, _, points = text.partition("Every operating point")
    assert "kWh/million output tokens" in points
    rows = [line.split() for line in points.splitlines() if "→" in line]
    assert rows[2:] == [  # after the two rows of energies and times
        ["default", "→", "1980", "0.347", "0.125", "125"],
        ["990", "→", "990", "0.278", "0.100", "100"],
    ]
    assert "kWh/million" not in draw_report(study_trials(frame(*block({990: (0.8, 1.1)}))), width)


def test_a_run_without_energy_shows_unknown_costs() -> None:
    rows = [row | {"joules_per_output_token": None} for row in block({990: (0.8, 1.1)})]
    shown = cells(section_of(make_study(frame(*rows))))
    assert set(shown) == {"task", "model", "in flight", "set"}
