"""The report's tables as LaTeX and Markdown. A small reader checks what LaTeX would refuse."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from runner.analysis.advice.tariff import parse_tariff
from runner.analysis.study import study_trials
from runner.display.paper_tables import (
    PaperTable,
    collect_tables,
    draw_latex,
    draw_markdown,
    escape_latex,
    escape_markdown,
    write_paper_tables,
)
from runner.display.report.build import build_document
from runner.display.report.document import Column, Details, Document, Section, Sentences, Table
from runner.results.run_directory import RunStore
from tests.display.studies import MANIFEST, make_study
from tests.display.trials import TRIALS


def make_document() -> Document:
    study = study_trials(TRIALS, tariff=parse_tariff(price="0.25 €/kWh"))
    return build_document(replace(make_study(), costs=study.costs, tariff=study.tariff), MANIFEST)


def read_latex(text: str) -> list[list[str]]:
    """Return the cells of a tabular. Fails on what LaTeX would refuse."""
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    shown = re.sub(r"(?m)^%.*$", "", text)
    unescaped = re.sub(r"\\[\\&%$#_{}]", "", shown)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    assert not re.findall(r"[#%~^_]", re.sub(r"\\label\{[^}]*\}", "", unescaped.replace("$^\\circ$", "")))
    assert shown.isascii(), [letter for letter in shown if not letter.isascii()]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", shown)
    assert columns
    body = shown.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line.removesuffix(r" \\") for line in body.strip().splitlines() if line != r"\midrule"]
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    assert {len(row) for row in cells} == {len(columns[1])}
    return [[cell.strip() for cell in row] for row in cells]


def read_markdown(text: str) -> list[list[str]]:
    """Return the cells of a table with pipes, without the line below its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert all(re.fullmatch(r"-{3}:?", cell) for cell in cells[1])
    return [cells[0], *cells[2:]]


def test_every_table_of_the_report_is_written_in_both_ways() -> None:
    tables = collect_tables(make_document())
    assert len({table.name for table in tables}) == len(tables) > 8
    for paper in tables:
        for cells in (read_latex(draw_latex(paper)), read_markdown(draw_markdown(paper))):
            assert len(cells) == 1 + len(paper.table.rows())


def test_a_table_of_the_page_and_of_the_terminal_has_its_title_and_notes() -> None:
    by_name = {paper.name: paper for paper in collect_tables(make_document())}
    advice = by_name["what-to-do"]
    assert advice.caption == "clocks: What to do. SIMULATED GPU."
    assert advice.notes[0].startswith("Changes are against the default clock.")
    assert not any("--max-slowdown" in note for note in advice.notes)  # what to type is no note of a table
    block = by_name["qa-on-org-small-1-in-flight"]
    assert block.caption == "clocks: qa on org/small, 1 in flight. SIMULATED GPU."
    assert block.notes[0].startswith("▸ least energy")
    assert any(note.startswith("Of a million") for note in by_name["money-and-carbon"].notes)


def test_notes_of_tables_that_stand_together_belong_to_each_of_them() -> None:
    table = Table(columns=(Column("a", "a", ("1",), 0),))
    notes, warning, plain = (
        Sentences(texts=(emphasis,), emphasis=emphasis)  # type: ignore[arg-type]
        for emphasis in ("quiet", "warning", "plain")
    )
    parts = (table, table, notes, warning, notes, table, plain)
    document = Document(
        title="run", notice="", summary="", overview=(),
        sections=(Section(title="S", parts=(*parts, Details(title="D", place="GPU-1", notice="N", parts=(table,)))),),
    )  # fmt: skip
    assert [(paper.name, paper.caption, paper.notes) for paper in collect_tables(document)] == [
        ("s", "run: S.", ("quiet", "warning")),
        ("s-2", "run: S.", ("quiet", "warning")),
        ("s-3", "run: S.", ()),
        ("d-gpu-1", "run: D, GPU-1. N.", ()),
    ]


@pytest.mark.parametrize(
    ("text", "latex", "markdown"),
    [
        ("tiny_qa", r"tiny\_qa", "tiny_qa"),
        ("_x_", r"\_x\_", r"\_x\_"),
        ("−23.1 ± 2.0 %", r"$-$23.1 $\pm$ 2.0 \%", "−23.1 ± 2.0 %"),
        ("a|b * [c]", "a$|$b * {[}c{]}", r"a\|b \* \[c\]"),
        (r"\new~1^2 {#} $5 & <b>", r"\textbackslash{}new\textasciitilde{}1\textasciicircum{}2 \{\#\} \$5 \& $<$b$>$",
         r"\\new~1^2 {#} $5 & \<b\>"),
        ("   1605 → 1605", r"1605 $\to$ 1605", "1605 → 1605"),
        ("two\nlines", "two lines", "two lines"),
    ],
)  # fmt: skip
def test_what_means_something_to_a_typesetter_is_escaped(text: str, latex: str, markdown: str) -> None:
    assert escape_latex(text) == latex
    assert escape_markdown(text) == markdown


def test_a_cell_that_looks_like_markup_stays_one_cell() -> None:
    table = Table(columns=(Column("a & b", "a", ("x | y", r"\\"), 0), Column("c", "c", ("[2ex]", "%"), 0)))
    paper = PaperTable(name="t", caption="50 % & more", table=table, notes=("a_b",))
    assert len(read_latex(draw_latex(paper))) == len(read_markdown(draw_markdown(paper))) == 3


def test_files_of_an_earlier_report_go_and_a_readers_own_stay(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    first = write_paper_tables(store, make_document(), "latex")
    assert "tables/money-and-carbon.tex" in first
    assert sorted(f"tables/{path.name}" for path in (tmp_path / "tables").iterdir()) == sorted(first)
    (tmp_path / "tables" / "own.tex").write_text("% my own\n")
    write_paper_tables(store, make_document(), "markdown")
    second = write_paper_tables(store, build_document(make_study(), MANIFEST), "latex")
    assert "tables/money-and-carbon.tex" not in second
    left = {path.name for path in (tmp_path / "tables").glob("*.tex")}
    assert left == {Path(name).name for name in second} | {"own.tex"}
    assert (tmp_path / "tables" / "money-and-carbon.md").exists()  # written in another markup


def test_long_and_odd_titles_become_file_names() -> None:
    titles = ["qa on " + 300 * "m", "質問", "質問"]
    table = Table(columns=(Column("a", "a", ("1",), 0),))
    document = Document(
        title="run", notice="", summary="", overview=(),
        sections=tuple(Section(title=title, parts=(table,)) for title in titles),
    )  # fmt: skip
    names = [paper.name for paper in collect_tables(document)]
    assert [len(names[0]), *names[1:]] == [150, "table", "table-2"]
