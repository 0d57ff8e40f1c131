"""What a difference between two runs is, and when it is small enough: for `compare_runs.py` and `compare_texts.py`.

Two runs of one version start at another instant. Power samples, which the NVIDIA driver stamps in whole µs, then fall
up to 1 µs to another side of a change of power, and energies differ by about 1e-6. Every column that differs by more
has a rule here, with its reason; of windows of some ms everything differs by more (`prove_unchanged.py` therefore has
all runs start at like instants). What varies for another reason than time (the machine, the version) is named in
`VARYING` and `VARYING_IN_MANIFEST`.
"""

import re
from dataclasses import dataclass, field

LIMIT_OF_ROUNDING = 1e-8
"""From this tolerance on, values that are equal within it may be rounded apart where they are shown."""
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """How far two runs may differ."""

    tolerance: float = 1e-5
    """Relative difference of two numbers."""
    reworded: bool = False
    """Whether messages may have other words around the same numbers; they are listed then."""

    @property
    def rounds_apart(self) -> bool:
        """Whether printed numbers may differ in their last place."""
        return self.tolerance >= LIMIT_OF_ROUNDING


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How numbers are compared that do not go by their own size alone."""

    reason: str
    factor: float = 1.0
    """The tolerance is so many times as large."""
    scale: float | str = 0.0
    """The least size that a difference is relative to: a number, or the value of another column in the same row."""


_PLAIN = Rule(reason="a number by its own size")
_TIME = Rule(scale=1e9, reason="ns since a start: relative to a second, since an instant has no size of its own")
_CHANGE = Rule(scale=1.0, reason="a change relative to the default clock, as a rule nearly nothing")
_SAMPLE = Rule(factor=100, reason="a sample is a mean of 20 ms: 1 µs of another power is 1e-4 of it and more")
_FIT = Rule(factor=10, reason="a fit over steps makes differences of their energies larger")
_CORRELATION = Rule(scale=1.0, factor=200, reason="over a few prompts whose energies are alike to 1e-2 and less")
_RULES = {
    "power_w": _SAMPLE,
    "mean_w": _SAMPLE,
    "least_w": _SAMPLE,
    "greatest_w": _SAMPLE,
    "time_s": Rule(scale=1.0, reason="an instant in a window, so relative to a second"),
    "max_power_gap_s": Rule(scale=1.0, reason="a distance of two stamps in whole µs, so relative to a second"),
    "settle_s": Rule(scale=1.0, reason="an instant after another one, so relative to a second"),
    "requests.energy_j": Rule(factor=10, reason="a request is shorter than a window and sees fewer samples"),
    "unattributed_energy_j": Rule(scale="energy_j", reason="what is left of it, as a rule nearly nothing"),
    "energy_uncertainty_j": Rule(scale="energy_j", reason="what steps of single samples add up to"),
    "phase_residual_fraction": Rule(scale=1.0, reason="a share of energy_j, as a rule nearly nothing"),
}
"""By column, or table and column. At a tolerance of 0 they change nothing."""

_RULES_BY_WORD = {
    "change chosen slowdown difference": _CHANGE,
    "regression": _FIT,
    "pearson partial coefficient": _CORRELATION,
}
"""By a word in a column's name, for those that are not named above."""

VARYING = {"host": "which machine ran it is no result"}
"""Columns whose differences are told and are no mismatch."""

VARYING_IN_MANIFEST = {
    "git_revision": "another version has another",
    "command": "it names the run directory",
    "start": "when it ran",
    "end": "when it ran",
    "joulesweep": "the program's own version",
    "host": "which machine ran it is no result",
    "hosts": "which machine ran it is no result",
}
"""Keys of manifest.json that are not compared, anywhere in it."""


def find_rule(table: str, column: str) -> Rule:
    """Return how a column's numbers are compared; `column` may be the last key of a path in JSON."""
    for name in (f"{table}.{column}", column):
        if name in _RULES:
            return _RULES[name]
    if column.endswith("_ns"):
        return _TIME
    words = set(column.split("_"))
    return next((rule for named, rule in _RULES_BY_WORD.items() if words & set(named.split())), _PLAIN)


def is_message(column: str) -> bool:
    """Return whether a column of a table holds sentences for people."""
    return column == "error" or column.endswith("_reason")


def relative_difference(old: float, new: float, scale: float = 0.0) -> float:
    """Return by how much two numbers differ, as a share of the larger one or of `scale` where that is larger still."""
    size = max(abs(old), abs(new), abs(scale))
    return abs(old - new) / size if size else 0.0


def mask_numbers(text: str) -> str:
    """Return a text without its numbers, and without the room that they take in a table."""
    return " ".join(_NUMBER.sub("#", text).split())


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
    """What differs and may: columns added, what names the machine."""
    rewordings: list[tuple[str, str]] = field(default_factory=list)
    """Messages without their numbers, before and after."""

    def see(self, column: str, difference: float) -> None:
        """Take note of a relative difference."""
        self.worst[column] = max(self.worst.get(column, 0.0), difference)

    def has_same_numbers(self, old: str, new: str, allowed: Allowed) -> bool:
        """Return whether two texts' numbers are the same; fractions may be rounded apart, whole numbers may not."""
        before, after = (_NUMBER.findall(text) for text in (old, new))
        same = len(before) == len(after)
        for a, b in zip(before, after, strict=False):
            x, y = float(a.replace(",", "")), float(b.replace(",", ""))
            if same and x != y:
                self.see("numbers", relative_difference(x, y))
            places = len(a.partition(".")[2])
            rounding = 1.01 * 10.0**-places if places and allowed.rounds_apart else 0.0
            same &= abs(x - y) <= max(allowed.tolerance * max(abs(x), abs(y)), rounding)
        return same

    def accepts(self, old: str, new: str, allowed: Allowed) -> bool:
        """Return whether two messages mean the same, as far as it is allowed to tell; keeps what was reworded."""
        if not self.has_same_numbers(old, new, allowed):
            return False
        words = mask_numbers(old), mask_numbers(new)
        if words[0] == words[1]:
            return True
        if allowed.reworded:
            self.rewordings.append(words)
        return allowed.reworded
