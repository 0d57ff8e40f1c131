"""The reader of interfaces, on a small package written for it."""

from pathlib import Path

import pytest

from tests.interfaces.collect import find_problems, read_signature
from tests.interfaces.interface import Interface
from tests.interfaces.sources import Sources

PACKAGE = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .inner.made import Made as Shown\n",
    "_version.py": "__version__ = version = '1.2'\n",
    "inner/__init__.py": "from .base import *\nKEYS = {'A': 1}\n",
    "inner/base.py": (
        "class Base:\n"
        "    field: int = 0\n"
        "    def __init__(self, first, second=2, *, third, fourth=4):\n"
        "        if first:\n            self.made, self.too = first, second\n"
        "    @property\n    def shown(self): ...\n"
        "    def call(self, one, two, *rest, three=3, **others): ...\n"
        "    @staticmethod\n    def alone(one): ...\n"
    ),
    "inner/made.py": (
        "from dataclasses import dataclass\nfrom pack.inner import Base\n"
        "class Made(Base):\n    def own(self): self.late = 1\n"
        "@dataclass\nclass Fields:\n    one: int\n    two: int = 2\n"
    ),
}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    for name, text in PACKAGE.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sources(tmp_path / "pack")


@pytest.mark.parametrize(
    ("interface", "problems"),
    [
        (Interface("pack", "Shown", attributes=("field", "made", "too", "shown", "call", "own")), []),
        (Interface("pack", "Shown", attributes=("late",)), ["no attribute late"]),
        (Interface("pack", "Hidden"), ["is not there"]),
        (Interface("pack.inner", "KEYS", attributes=("A", "B")), ["no attribute B"]),
        (Interface("pack", "Shown", ("first", "third"), positional=1, use="call"), []),
        (Interface("pack", "Shown", ("first",), positional=1, use="call"), ["requires third"]),
        (Interface("pack", "Shown", ("first", "third"), positional=2), ["third is not parameter 2"]),
        (Interface("pack", "Shown", ("first", "fifth")), ["no parameter fifth"]),
        (Interface("pack", "Shown.call", ("one", "two", "any"), positional=2, use="call"), []),
        (Interface("pack", "Shown.call", ("two", "one"), positional=1), ["two is not parameter 1"]),
        (Interface("pack.inner.base", "Base.alone", ("one",), use="override"), []),
        (Interface("pack", "Shown.own", use="override"), []),
        (Interface("pack.inner.made", "Fields", ("one",), ("two",), use="call"), []),
        (Interface("pack.inner.made", "Fields", ("two",), use="call"), ["requires one"]),
        (Interface("pack.inner.made", "Fields", ("one",), use="override"), ["takes two= too"]),
    ],
)
def test_what_a_package_lacks_is_named(sources: Sources, interface: Interface, problems: list[str]) -> None:
    found = find_problems(interface, read_signature(sources, interface))
    assert len(found) == len(problems)
    assert all(text.endswith(problem) for text, problem in zip(found, problems, strict=True))


def test_the_release_is_read(sources: Sources) -> None:
    assert sources.release == "1.2"
