"""Every module of the analysis has a test module of its name, in the same place."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT / "runner" / "analysis")
    for path in (ROOT / "runner" / "analysis").rglob("*.py")
    if path.name != "__init__.py"
)


def test_the_modules_are_found() -> None:
    assert Path("study.py") in MODULES
    assert Path("window/verdicts.py") in MODULES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_tests_of_its_name_that_import_it(module: Path) -> None:
    tests = ROOT / "tests" / "analysis" / module.parent / f"test_{module.name}"
    assert tests.is_file()
    name = ".".join(("runner", "analysis", *module.with_suffix("").parts))
    assert f"from {name} import" in tests.read_text(encoding="utf-8")
