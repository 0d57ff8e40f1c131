"""The page as a browser reads it. How it looks was judged by eye, on wide and narrow screens, light and dark."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest

from runner.analysis.advice.limits import Limits
from runner.analysis.study import study_trials
from runner.display.plots.clock_plots import plot_energy
from runner.display.report import page as page_module
from runner.display.report.build import build_document
from runner.display.report.page import render_page
from runner.display.text.figures import FIGURE_TITLES
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES, MANIFEST, make_study

MINUS = "\N{MINUS SIGN}"
ENERGY = FIGURE_TITLES["energy"]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """A page's text, what it loads, and whether its elements close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self._script = attributes.get("id", "code") if tag == "script" else None
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] = data
        elif self.open and self.open[-1] != "style" and data.strip():
            self.text.append(" ".join(data.split()))


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch):
    """Bundling takes seconds; one test does it."""
    monkeypatch.setattr(page_module, "load_vega", lambda: "window.vegaEmbed = 1;")


def page_of(study, manifest=MANIFEST):
    html = render_page(build_document(study, manifest), {"energy": plot_energy(study.points), "time": []})
    page = Page(html)
    assert page.open == []
    return page


def test_the_page_needs_no_network():
    assert page_of(make_study()).loaded == []


def test_what_to_do_comes_first():
    text = page_of(make_study()).text
    notice = next(i for i, line in enumerate(text) if line.startswith("SIMULATED GPU: "))
    sentence = next(i for i, line in enumerate(text) if line.startswith("Set 990 MHz on gpu: over 5 combinations"))
    headings = [
        text.index(name) for name in ("What to do", ENERGY, "Every operating point", "Verdicts and failures", "Method")
    ]
    assert notice < headings[0] < sentence < headings[1]
    assert headings == sorted(headings)
    assert FIGURE_TITLES["time"] not in text


def test_numbers_of_the_study_are_on_the_page():
    study = make_study(Limits(max_slowdown=0.2))
    text = "\n".join(page_of(study).text)
    saving = study.recommendations.filter(goal="energy")["change"][0]
    assert saving == pytest.approx(-0.2, abs=0.001)
    assert f"{MINUS}20.0 ± " in text
    assert "Limits: at most 20 % slower." in text
    assert "at least 99.0 % identical" in text
    assert "an ideal router between it and org/small" in text
    assert "These savings are upper bounds, not forecasts." in text
    assert "1 trial\nclock_not_held: the clock that ran is not the clock that was asked for" in text
    assert "1 trial failed\nout of memory" in text
    assert "NVIDIA H200, GPU-a, driver 580" in text
    assert "sweep run clocks.toml" in text


def test_tables_say_what_their_marks_mean_and_whose_numbers_they_hold():
    text = page_of(make_study()).text
    assert text.count("At the default clock · SIMULATED GPU") == 1
    assert text.count("qa on org/small, 1 in flight · SIMULATED GPU") == 1
    assert any(
        line.startswith("▸ least energy of the sound ones · ! every trial has a verdict or failed") for line in text
    )
    assert any(line == "quality: exact_match, ± one standard error" for line in text)


def test_prefill_and_decode_have_a_table():
    phases = {"phase_method": "static_batches", "joules_per_prefill_token": 0.0123, "joules_per_decode_token": 0.456}
    text = page_of(study_trials(frame(*(row | phases for row in block(CHANGES))))).text
    assert {"prefill mJ", "decode mJ"} <= set(text)
    assert "12.3" in text
    assert "456" in text
    assert "prefill and decode energy per token, by static_batches · ±: 95 % interval" in text


def test_a_run_at_the_default_clock_alone_has_its_tables_side_by_side_and_no_empty_section():
    phases = {"phase_method": "static_batches", "joules_per_prefill_token": 0.0123, "joules_per_decode_token": 0.456}
    gpus = {"a": ["GPU-a1-0"], "b": ["GPU-b2-0"]}
    rows = [trial(None, 1.0, task=task, block_id=task, gpu_uuids=uuids, **phases) for task, uuids in gpus.items()]
    text = page_of(study_trials(frame(*rows))).text
    assert "gpu, 2 GPUs" in text
    assert any(line.startswith("Two GPUs of one kind differ by about 5 %") for line in text)
    assert text.count("GPU-a1") == text.count("GPU-b2") == 2  # both tables
    assert text.count("12.3") == text.count("456") == 2
    assert "None: every trial is sound." in text
    assert not {ENERGY, "Every operating point"} & set(text)
    assert not any("Bonferroni" in line for line in text)


def test_blocks_of_several_gpus_name_theirs():
    rows = [row | {"gpu_uuids": [f"GPU-{task}-0"]} for task in "ab" for row in block(CHANGES, task=task, block_id=task)]
    text = page_of(study_trials(frame(*rows))).text
    assert any(line.startswith("a on small, 4 in flight · GPU-a") for line in text)
    assert any(line.startswith("b on small, 4 in flight · GPU-b") for line in text)


def test_features_that_count_have_a_table_and_the_others_a_reason():
    text = page_of(make_study()).text
    start = text.index("What an input costs · SIMULATED GPU")
    table = text[start : start + 20]
    assert table[1:7] == ["feature", "partial", "95 %", "q", "prompts", "energy"]
    assert table[7:12] == ["num_prompt_tokens", "+0.90", "+0.80 to +1.00", "0.001", "60"]
    assert "score: no correlation: no scores" in text
    assert "not compared: digit_fraction (no digits)" in text


def test_where_no_correlation_is_known_a_line_says_why_instead_of_a_section():
    study = make_study()
    unknown = study.correlations.with_columns(
        partial=pl.lit(None, pl.Float64), reason=pl.lit("known of 2 prompts: 10 are needed")
    )
    text = page_of(replace(study, correlations=unknown)).text
    assert text.count("No correlation with features of the prompts: known of 2 prompts: 10 are needed") == 1
    assert not any("What an input costs" in line or "no correlation" in line for line in text)


def test_a_number_keeps_its_unit_on_its_line():
    html = render_page(build_document(make_study(), MANIFEST), {})
    assert "Set 990\N{NO-BREAK SPACE}MHz on gpu" in html
    assert "20.0\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}" in html
    assert not re.search(r"\d %", html.partition("</style>")[2])


def test_many_comparisons_are_folded():
    assert not any(line.endswith(" comparisons") for line in page_of(make_study()).text)
    rows = [
        row | {"joules_per_request": 100 * row["joules_per_output_token"]}
        for i in range(page_module.MAX_FINDINGS + 2)
        for row in block(CHANGES, model=f"m{i}", block_id=f"b{i}")
    ]
    assert f"{page_module.MAX_FINDINGS + 1} comparisons" in page_of(study_trials(frame(*rows))).text


def test_columns_in_which_nothing_is_known_are_left_out():
    text = page_of(study_trials(frame(*block(CHANGES)))).text
    assert "outputs" not in text
    assert "energy-delay" in text
    assert "None: every trial is sound." in text


def test_plots_are_there_as_data():
    study = make_study()
    plots = json.loads(page_of(study).scripts["plots"])
    assert len(plots) == len(plot_energy(study.points))
    assert all(plot["width"] == "container" for plot in plots.values())
    assert "SIMULATED GPU" in json.dumps(plots)


def test_names_from_outside_cannot_break_out_of_the_page():
    evil = "</script><img src=x onerror=alert(1)>"
    study = study_trials(frame(*block(CHANGES, model=evil, task=evil)))
    page = page_of(study, MANIFEST | {"sweep": {"name": evil}})
    assert page.loaded == []
    assert page.text.count(evil) >= 2
    assert "script><img src=x" in json.dumps(json.loads(page.scripts["plots"]))


def test_real_gpus_and_imported_tables_are_called_what_they_are():
    text = "\n".join(page_of(make_study(simulated=False)).text)
    assert "SIMULATED" not in text
    imported = {"imported": {"file": "grid.csv", "stands_for_default": ["SM 3090 MHz"]}}
    text = "\n".join(page_of(make_study(simulated=False), MANIFEST | imported).text)
    assert "Imported from grid.csv: measured elsewhere" in text
    assert "its highest clocks (SM 3090 MHz) stand for it" in text
    assert "the GPU's power samples" not in text


def test_a_run_without_a_trial_makes_a_page():
    text = page_of(study_trials(frame())).text
    assert "0 trials, 0 sound" in text
    assert "No trial has finished yet." in text
    assert "None: every trial is sound." not in text


def test_only_so_many_tables_are_written_out(monkeypatch):
    monkeypatch.setattr(page_module, "MAX_DETAILS", 2)
    text = "\n".join(page_of(make_study()).text)
    assert "And 3 more, which" in text
