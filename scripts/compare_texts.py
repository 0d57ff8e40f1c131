"""What a run says in words, in plots and in JSON, of two runs: where does it differ, numbers within a tolerance?

Texts, pages (report.html), JSON and events.jsonl enter, as they lie in two run directories. A `Comparison` of each
leaves. Next: `compare_runs.py` prints them beside those of the tables.
"""

import difflib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from run_difference import Allowed, Comparison, find_rule, mask_numbers, relative_difference

MAX_DIFF_LINES = 24
"""Of each text; who wants more has both files."""
MAX_VALUES = 3
"""Of each key of JSON."""
PLOT_ROUNDING = 1e-4
"""Plots hold five digits."""

_RULE = re.compile(r"─+")
_OUT = re.compile(r"--out ([^\s\"]+)")
_INDEX = re.compile(r"\[\d+\]")
_OWN_VERSION = re.compile(r"\bjoulesweep \d\S*")

_ORIGIN = {
    "revision": "the checkout's git revision: another version has another",
    "run": "when it ran, and the command with the run directory",
}
"""Terms at the page's end whose values vary between two runs of one version, and why."""


def read_text(path: Path, run: Path) -> list[str]:
    """Return a text's lines without the name of its run directory, as it is or was, and rules of any length alike."""
    text = path.read_text(encoding="utf-8")
    manifest = run / "manifest.json"
    places = {str(run), str(run.resolve())}
    places |= set(_OUT.findall(manifest.read_text(encoding="utf-8"))) if manifest.exists() else set()
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, "RUN")
    return [_RULE.sub("─", line).rstrip() for line in text.splitlines() if line.strip()]


def compare_texts(name: str, old: Sequence[str], new: Sequence[str], allowed: Allowed) -> Comparison:
    """Compare lines of text: words alike, numbers within the tolerance; what differs is told as a diff."""
    result = Comparison(name=name, size_old=len(old), size_new=len(new))
    masks = [[mask_numbers(line) for line in lines] for lines in (old, new)]
    diff: list[str] = []
    for _, i, i_end, j, j_end in difflib.SequenceMatcher(None, masks[0], masks[1], autojunk=False).get_opcodes():
        for before, after in _pair(old[i:i_end], new[j:j_end]):
            if before != after and not result.accepts("\n".join(before), "\n".join(after), allowed):
                diff += [*(f"- {line}" for line in before), *(f"+ {line}" for line in after)]
    result.mismatches += diff[:MAX_DIFF_LINES]
    if len(diff) > MAX_DIFF_LINES:
        result.mismatches.append(f"... {len(diff)} lines of difference in all")
    return result


def _pair(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield as many lines one by one; others together, since other words may need more lines."""
    if len(old) == len(new):
        yield from (((a,), (b,)) for a, b in zip(old, new, strict=True))
    else:
        yield old, new


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


def compare_pages(old: Path, new: Path, allowed: Allowed) -> list[Comparison]:
    """Compare two report.html: what is to be read, and the data and specifications of the plots."""
    pages = []
    for path in (old, new):
        page = _Page()
        page.feed("\n".join(read_text(path, path.parent)))
        page.close()
        pages.append(page)
    texts = [list(_without_origin(page.lines)) for page in pages]
    rounding = PLOT_ROUNDING if allowed.rounds_apart else 0.0
    return [
        compare_texts("report.html", texts[0], texts[1], allowed),
        compare_json("report.html plots", pages[0].json, pages[1].json, allowed, rounding=rounding),
    ]


def _without_origin(lines: Sequence[str]) -> Iterator[str]:
    """Leave out the values of `_ORIGIN`, each the line after its term, and the program's own version."""
    term = ""
    for line in lines:
        if term not in _ORIGIN:
            yield _OWN_VERSION.sub("joulesweep", line)
        term = line


# JSON ----------------------------------------------------------------------------------------------------------------


def compare_json(
    name: str, old: Any, new: Any, allowed: Allowed, *, varying: Collection[str] = (), rounding: float = 0.0
) -> Comparison:
    """Compare two values of JSON; keys in `new` alone are additions.

    Args:
        varying: keys that are left out.
        rounding: relative difference that is allowed beside the tolerance.
    """
    before, after = dict(_flatten("", old, varying)), dict(_flatten("", new, varying))
    result = Comparison(name=name, size_old=len(before), size_new=len(after))
    if added := {_INDEX.sub("[]", where) for where in after.keys() - before.keys()}:
        result.notes.append(f"added: {', '.join(sorted(added))}")
    wrong: dict[str, list[str]] = defaultdict(list)
    for where, value in before.items():
        if where not in after:
            wrong[_INDEX.sub("[]", where)].append("missing")
        elif not _is_same(where, before, after, result, allowed, rounding=rounding):
            wrong[_INDEX.sub("[]", where)].append(f"{str(value)[:80]} → {str(after[where])[:80]}")
    for key, found in wrong.items():
        result.mismatches.append(f"{key}: {len(found)} differ: {'; '.join(found[:MAX_VALUES])}")
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


def _is_same(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], result: Comparison, allowed: Allowed, *, rounding: float
) -> bool:
    """Return whether two values are the same: fractions within the tolerance, sentences in other words if need be."""
    a, b = old[where], new[where]
    if a == b and type(a) is type(b):
        return True
    if isinstance(a, str) and isinstance(b, str):
        return " " in a and " " in b and result.accepts(a, b, allowed)
    if not (isinstance(a, float) or isinstance(b, float)) or not all(type(value) in (int, float) for value in (a, b)):
        return False  # whole numbers must be equal
    row, _, column = where.rpartition(".")
    rule = find_rule(result.name, column)
    scale = (old.get(f"{row}.{rule.scale}") or 0.0) if isinstance(rule.scale, str) else rule.scale
    difference = relative_difference(a, b, scale)
    result.see(column, difference)
    return difference <= allowed.tolerance * rule.factor + rounding


# events --------------------------------------------------------------------------------------------------------------


def compare_events(old: Path, new: Path, allowed: Allowed) -> list[Comparison]:
    """Compare two events.jsonl: what kinds of events there were, and what they said.

    Those of each GPU and of the driver are compared apart: between them the order varies, since they are different
    processes. When an event happened is not compared: the driver's are of the wall clock, and a trial's end is its
    start and duration, which its row has.
    """
    events = [sorted(_read_events(path)) for path in (old, new)]
    kinds = [[kind for _, _, kind, _ in side] for side in events]
    messages = [[message for _, _, _, message in side] for side in events]
    strict = Allowed(tolerance=0.0)
    return [
        compare_texts("events.jsonl kinds", kinds[0], kinds[1], strict),
        compare_texts("events.jsonl messages", messages[0], messages[1], allowed),
    ]


def _read_events(path: Path) -> Iterator[tuple[str, int, str, str]]:
    """Yield each event's source, its number, its kind with all that names it, and its message."""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
        event = json.loads(text)
        source = event.get("gpu_uuid", "driver")
        yield (
            source,
            number,
            f"{source} {event['level']} {event['kind']} {event.get('trial_id', '-')}",
            event["message"],
        )
