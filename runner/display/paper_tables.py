"""The report's tables as LaTeX or Markdown, a file each, for papers and notes.

A `Document` enters; files in the run directory leave. The tables are those that the terminal and the page show.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.display.report.document import Details, Document, Part, Sentences, Table
from runner.display.report.exports import TABLES
from runner.results.atomic_files import write_atomically
from runner.results.run_directory import RunStore

Markup = Literal["latex", "markdown"]

MAX_NAME = 150
"""Letters of a file's name. File systems take 255 bytes, and write under a longer name first."""
_SUFFIXES: dict[Markup, str] = {"latex": "tex", "markdown": "md"}
_MADE_BY = "Made by Joulesweep (sweep report)"
"""Stands in the first line of each file, so that those of an earlier report can be told from a reader's own."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "[": "{[}", "]": "{]}",
    "−": "$-$", "±": r"$\pm$", "→": r"$\to$", "Δ": r"$\Delta$", "▸": r"$\triangleright$", "×": r"$\times$",
    "·": r"$\cdot$", "–": "--", "…": r"\ldots{}", "°": r"$^\circ$", "€": r"\texteuro{}", "£": r"\pounds{}",
    "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """One table of a report with what a reader needs beside it."""

    name: str
    """The file's name without its suffix; unique in the report."""
    caption: str
    table: Table
    notes: tuple[str, ...]
    """The sentences below it."""


def write_paper_tables(store: RunStore, document: Document, markup: Markup) -> list[str]:
    """Write every table of a report into the run directory; returns the files' names.

    Files of an earlier report that are not written again are removed. Others there are left alone.
    """
    folder, suffix, draw = store.directory / TABLES, _SUFFIXES[markup], _DRAW[markup]
    files = {f"{table.name}.{suffix}": draw(table) for table in collect_tables(document)}
    for path in folder.glob(f"*.{suffix}"):
        if path.name not in files and _MADE_BY in path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]:
            path.unlink()
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [f"{TABLES}/{name}" for name in files]


def collect_tables(document: Document) -> list[PaperTable]:
    """Return the tables of all sections, for the terminal and for the page, in the order of the report."""
    found: list[PaperTable] = []
    names: dict[str, int] = {}
    for title, notice, parts in _list_parts(document):
        for i, part in enumerate(parts):
            if isinstance(part, Table):
                name = _name_file(title)
                names[name] = names.get(name, 0) + 1
                number = "" if names[name] == 1 else f"-{names[name]}"
                caption = ". ".join(filter(None, (f"{document.title}: {title}", notice))) + "."
                found.append(
                    PaperTable(name=name + number, caption=caption, table=part, notes=_find_notes(parts[i + 1 :]))
                )
    return found


def draw_latex(paper: PaperTable) -> str:
    r"""Return a `table` environment that needs \usepackage{booktabs} and nothing else."""
    columns = paper.table.columns
    lines = [
        rf"% {_MADE_BY}. Needs \usepackage{{booktabs}}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(paper.caption)}}}",
        rf"\label{{tab:{paper.name}}}",
        rf"\begin{{tabular}}{{{''.join('l' if column.alignment == 'left' else 'r' for column in columns)}}}",
        r"\toprule",
        _join_latex(column.header for column in columns),
        r"\midrule",
        *(_join_latex(row) for row in paper.table.rows()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if paper.notes:
        lines += ["", r"\smallskip", r"{\footnotesize " + r" \\ ".join(map(escape_latex, paper.notes)) + r"\par}"]
    return "\n".join([*lines, r"\end{table}", ""])


def draw_markdown(paper: PaperTable) -> str:
    """Return a table with pipes, its caption above and its notes below."""
    columns = paper.table.columns
    rules = ["---" if column.alignment == "left" else "---:" for column in columns]
    lines = [f"<!-- {_MADE_BY} -->", "", f"**{escape_markdown(paper.caption)}**", ""]
    lines += [_join_markdown(column.header for column in columns), f"| {' | '.join(rules)} |"]
    lines += [_join_markdown(row) for row in paper.table.rows()]
    return "\n".join([*lines, *(f"\n{escape_markdown(note)}" for note in paper.notes), ""])


_DRAW: dict[Markup, Callable[[PaperTable], str]] = {"latex": draw_latex, "markdown": draw_markdown}


def escape_latex(text: str) -> str:
    """Write text so that LaTeX shows it as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_space(text))


def escape_markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is. An underscore inside a word means nothing there."""
    return re.sub(r"[\\|*<>`\[\]]|(?<!\w)_|_(?!\w)", lambda match: "\\" + match[0], _one_space(text))


def _join_latex(cells: Iterable[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def _join_markdown(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _one_space(text: str) -> str:
    """Undo what aligns cells on a terminal."""
    return re.sub(r"[ \n]+", " ", text).strip(" ")


def _name_file(title: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", title.lower())[:MAX_NAME].strip("-.") or "table"


def _list_parts(document: Document) -> Iterator[tuple[str, str, Sequence[Part]]]:
    """Yield each run of parts in which a table's notes stand below it, with its title and its notice."""
    for section in document.sections:
        details = [part for part in section.parts if isinstance(part, Details)]
        yield section.title, section.notice or document.notice, section.parts
        for detail in details:
            title = f"{detail.title}, {detail.place}" if detail.place else detail.title
            yield title, detail.notice or document.notice, detail.parts


def _find_notes(after: Sequence[Part]) -> tuple[str, ...]:
    """Return what stands below a table, or below the tables next to it: its notes, and a warning if there is one."""
    notes: list[str] = []
    for part in after:
        if isinstance(part, Sentences) and (part.emphasis == "warning" or (part.emphasis == "quiet" and not notes)):
            notes += part.texts
        elif notes or not isinstance(part, Table):
            break
    return tuple(notes)
