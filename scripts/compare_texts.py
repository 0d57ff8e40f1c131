"""What a run says in words, in plots and in JSON, of two runs: where does it differ, numbers within a tolerance?

Texts, pages (report.html), JSON and events.jsonl enter, as they lie in two run directories. A `Comparison` of each leaves.
Next: `compare_runs.py` prints them beside those of the tables.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

MAX_DIFF_LINES = 24
"""Of each text; who wants more has both files."""

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_RULE = re.compile(r"─+")
_OWN_VERSION = re.compile(r"\bjoulesweep \d\S*")
_OWN_PLACE = "RUN"
_LIMIT_OF_ROUNDING = 1e-8
"""From this tolerance on, a printed fraction may differ by one in its last place: values so near are rounded apart."""

_LINES_OF_THE_RUN = {
    "revision": "the checkout's git revision: another version has another",
    "run": "when it ran, and the command with the run directory",
}
"""Terms of the page's list of origins whose values vary between two runs of one version, and why."""

MANIFEST_KEYS_OF_THE_RUN = {
    "git_revision": "another version has another",
    "command": "it names the run directory",
    "start": "when it ran",
    "end": "when it ran",
    "joulesweep": "the program's own version",
    "host": "which machine ran it is no result",
    "hosts": "which machine ran it is no result",
}
"""Keys of manifest.json whose values vary between two runs of one version, and why; anywhere in it."""


@dataclass(kw_only=True)
class Comparison:
    """What became of one table or text."""

    name: str
    size_old: int = 0
    """Rows, lines or values."""
    size_new: int = 0
    num_columns: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    """Largest relative difference of each column or key in which there is any, those within tolerance included."""
    mismatches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What differs and may: columns added, what names the machine or the version."""

    def see(self, column: str, difference: float) -> None:
        """Take note of a relative difference."""
        self.worst[column] = max(self.worst.get(column, 0.0), difference)


def compare_texts(name: str, old: Sequence[str], new: Sequence[str], tolerance: float) -> Comparison:
    """Compare lines of text: words alike, numbers within the tolerance."""
    result = Comparison(name=name, size_old=len(old), size_new=len(new))
    adopted = list(new)
    matcher = difflib.SequenceMatcher(None, [_mask(line) for line in old], [_mask(line) for line in new], False)
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            line_old, line_new = old[block.a + i], new[block.b + i]
            if line_old == line_new or _same_numbers(line_old, line_new, tolerance, result):
                adopted[block.b + i] = line_old
    diff = list(difflib.unified_diff(list(old), adopted, "old", "new", lineterm="", n=0))[2:]
    result.mismatches += [line for line in diff if not line.startswith("@@")][:MAX_DIFF_LINES]
    if len(diff) > MAX_DIFF_LINES:
        result.mismatches.append(f"... {len(diff)} lines of difference in all")
    return result


def _mask(line: str) -> str:
    """A line without its numbers, and without the room that they take in a table."""
    return " ".join(_NUMBER.sub("#", line).split())


def _same_numbers(old: str, new: str, tolerance: float, result: Comparison) -> bool:
    same = True
    for a, b in zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True):
        x, y = float(a.replace(",", "")), float(b.replace(",", ""))
        if x != y:
            result.see("numbers", relative_difference(x, y))
        places = len(a.partition(".")[2])
        rounding = 1.01 * 10.0**-places if places and tolerance >= _LIMIT_OF_ROUNDING else 0.0
        same &= abs(x - y) <= max(tolerance * max(abs(x), abs(y)), rounding)
    return same


def relative_difference(old: float, new: float, scale: float = 0.0) -> float:
    """Return by how much two numbers differ, as a share of the larger one or of `scale` where that is larger still."""
    size = max(abs(old), abs(new), scale)
    return abs(old - new) / size if size else 0.0


def read_text(path: Path, run: Path) -> list[str]:
    """Return a text's lines without the name of its run directory, and rules of any length alike."""
    text = path.read_text(encoding="utf-8")
    for place in sorted({str(run), str(run.resolve())}, key=len, reverse=True):
        text = text.replace(place, _OWN_PLACE)
    return [_RULE.sub("─", line).rstrip() for line in text.splitlines() if line.strip()]


# the page ------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """What a reader sees, an element's text a line; and the JSON in it, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.json: dict[str, Any] = {}
        self._data_id: str | None = None
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._hidden = tag in ("script", "style")  # programs and looks are no results
        self._data_id = values.get("id") if values.get("type") == "application/json" else None

    def handle_endtag(self, tag: str) -> None:
        self._hidden, self._data_id = False, None

    def handle_data(self, data: str) -> None:
        if self._data_id:
            self.json[self._data_id] = json.loads(data)
        elif not self._hidden and data.strip():
            self.lines.append(" ".join(data.split()))


def compare_pages(old: Path, new: Path, tolerance: float) -> list[Comparison]:
    """Compare two report.html: what is to be read, and the data and specifications of the plots."""
    pages = []
    for path in (old, new):
        page = _Page()
        page.feed("\n".join(read_text(path, path.parent)))
        pages.append(page)
    texts = [list(_without_origin(page.lines)) for page in pages]
    return [
        compare_texts("report.html", *texts, tolerance),
        compare_json("report.html plots", pages[0].json, pages[1].json, tolerance),
    ]


def _without_origin(lines: Sequence[str]) -> Iterator[str]:
    """Leave out the values of `_LINES_OF_THE_RUN`, each the line after its term, and the program's own version."""
    term = ""
    for line in lines:
        if term not in _LINES_OF_THE_RUN:
            yield _OWN_VERSION.sub("joulesweep", line)
        term = line


# JSON ----------------------------------------------------------------------------------------------------------------


def compare_json(name: str, old: Any, new: Any, tolerance: float, varying: Collection[str] = ()) -> Comparison:
    """Compare two values of JSON; keys in `new` alone are additions, those in `varying` are left out."""
    result = Comparison(name=name)
    values = _flatten("", old, varying), _flatten("", new, varying)
    before, after = dict(values[0]), dict(values[1])
    result.size_old, result.size_new = len(before), len(after)
    for where in before.keys() - after.keys():
        result.mismatches.append(f"{where} is missing")
    added = {re.sub(r"\[\d+\]", "[]", where) for where in after.keys() - before.keys()}
    result.notes += [f"added: {', '.join(sorted(added))}"] if added else []
    for where in before.keys() & after.keys():
        if not _same_value(where, before[where], after[where], tolerance, result):
            result.mismatches.append(f"{where}: {str(before[where])[:100]} → {str(after[where])[:100]}")
    result.mismatches.sort()
    return result


def _flatten(where: str, value: Any, varying: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its path, and the length of every list."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in varying:
                yield from _flatten(f"{where}.{key}", item, varying)
    elif isinstance(value, list):
        yield f"{where}.length", len(value)
        for i, item in enumerate(value):
            yield from _flatten(f"{where}[{i}]", item, varying)
    else:
        yield where, value


def _same_value(where: str, old: Any, new: Any, tolerance: float, result: Comparison) -> bool:
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
    if type(old) is type(new) and old == new:
        return True
    if not is_number or (isinstance(old, int) and isinstance(new, int)):
        return False
    difference = relative_difference(old, new)
    result.see(re.sub(r"\[\d+\]", "", where).rpartition(".")[2], difference)
    return difference <= tolerance


# events --------------------------------------------------------------------------------------------------------------


def compare_events(old: Path, new: Path, tolerance: float) -> Comparison:
    """Compare two events.jsonl by their words, those of each board and of the driver apart.

    Between them the order varies, since they are different processes. When an event happened is not compared: the
    driver's are of the wall clock, and a trial's end is its start and duration, which its row has.
    """
    texts = [sorted(_describe_events(path)) for path in (old, new)]
    lines = [[line for _, _, line in text] for text in texts]
    return compare_texts("events.jsonl", lines[0], lines[1], tolerance)


def _describe_events(path: Path) -> Iterator[tuple[str, int, str]]:
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
        event = json.loads(text)
        source = event.get("gpu_uuid", "driver")
        words = (source, event["level"], event["kind"], event.get("trial_id", "-"), event["message"])
        yield source, number, " | ".join(words)
