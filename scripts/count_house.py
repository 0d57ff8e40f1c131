"""How the code is housed: modules a folder, lines a module, long functions, retired words.

    python scripts/count_house.py

The tree enters; a table leaves, and every place that breaks a limit. Exit code 1 if there is one. `make check` runs it.
docs/glossary.md says what each retired word became.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MODULES = 13
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 60

RETIRED = {
    "board": r"boards?",
    "silicon": r"silicon",
    "seat": r"seats?",
    "companion": r"companions?",
    "bench": r"bench",
    "twin": r"twins?",
    "surprise": r"surprises?",
    "cancelled": r"cancel(?:led|lation)",
    "given up": r"(?:gives?|given|giving|gave) up",
}
"""By word, what is searched for; whole words, in any case."""
KEPT = (
    r"joulesweep-boards",  # on disk: the lock that releases before this one take too
    r"\bBoardModel\b",  # in fingerprints on disk
    r"board_not_restored",  # an event of events.jsonl
    r"make bench|vllm-? ?bench|run_vllm_bench|\bbench_\w+|\bbench:|check bench",  # benchmarks
    r"(?:default_is_)?on_same_board",  # a column of the report's tables
    r"prompt_surprise_nats|measure_surprise",  # a column, and a key of sweep files
    r"\btwin ?= ?|`twin`|\.twin\b|\btwin: str|\"twin\\?\"|'twin'",  # a key of sweep files
    r"[Bb]oard limit|BOARD_LIMIT",  # NVML's name of a policy
)
"""Names that keep a retired word because other people's scripts and files hold them."""
CODE = ("runner", "tests", "scripts", "benchmarks")
PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "docs/*.md", "sweeps/*.toml", "models/README.md")
NOT_SEARCHED = ("docs/glossary.md", "scripts/count_house.py")


def main() -> int:
    modules = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    problems = [*_find_crowded(modules), *_find_long_modules(modules), *_find_long_functions(modules)]
    words = list(_find_retired())
    print(_describe_folders(modules))
    counts = Counter(word for word, _ in words)
    print(f"retired words: {sum(counts.values())}" + "".join(f", {word} {n}" for word, n in counts.most_common()))
    print(f"functions over {MAX_FUNCTION_LINES} lines: {len(list(_find_long_functions(modules)))}")
    for problem in [*problems, *(f'{place}: "{word}" is retired' for word, place in words)]:
        print(problem, file=sys.stderr)
    return 1 if problems or words else 0


def _in_runner(modules: list[Path]) -> list[Path]:
    return [path for path in modules if path.relative_to(ROOT).parts[0] == "runner"]


def _describe_folders(modules: list[Path]) -> str:
    """Return a line a folder of the package: its modules, their lines, the longest of them."""
    lines = [f"{'folder':36} {'modules':>7} {'lines':>6} {'longest':>7}"]
    folders = sorted({path.parent for path in _in_runner(modules)})
    for folder in folders:
        lengths = [_num_lines(path) for path in _modules_in(folder)]
        if lengths:
            name = str(folder.relative_to(ROOT))
            lines.append(f"{name:36} {len(lengths):7} {sum(lengths):6} {max(lengths):7}")
    return "\n".join(lines)


def _modules_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


def _num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _find_crowded(modules: list[Path]) -> Iterator[str]:
    for folder in sorted({path.parent for path in _in_runner(modules)}):
        if (number := len(_modules_in(folder))) > MAX_MODULES:
            yield f"{folder.relative_to(ROOT)}: {number} modules, {MAX_MODULES} at most"


def _find_long_modules(modules: list[Path]) -> Iterator[str]:
    for path in _in_runner(modules):
        if (number := _num_lines(path)) > MAX_MODULE_LINES:
            yield f"{path.relative_to(ROOT)}: {number} lines, {MAX_MODULE_LINES} at most"


def _find_long_functions(modules: list[Path]) -> Iterator[str]:
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                number = (node.end_lineno or node.lineno) - node.lineno + 1
                if number > MAX_FUNCTION_LINES:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {number} lines"


def _find_retired() -> Iterator[tuple[str, str]]:
    """Yield each retired word with its place."""
    code = [
        path for folder in CODE for kind in ("py", "html", "css", "js") for path in (ROOT / folder).rglob(f"*.{kind}")
    ]
    prose = [path for pattern in PROSE for path in ROOT.glob(pattern)]
    kept = re.compile("|".join(KEPT))
    for path in sorted({*code, *prose}):
        name = str(path.relative_to(ROOT))
        if name in NOT_SEARCHED:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            # A name's parts are words too: lose_board, test_a_board_is_lost.
            text = kept.sub("", line).replace("_", " ")
            for word, pattern in RETIRED.items():
                if re.search(rf"\b{pattern}\b", text, re.IGNORECASE):
                    yield word, f"{name}:{number}"


if __name__ == "__main__":
    sys.exit(main())
