"""The sources of a package, read without importing it: definitions by name.

The root is a package's folder, of an installed package or of an unpacked wheel. Names are followed through imports and
base classes within the package. What comes from another package counts as missing.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.interfaces.interface import Text

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = ast.ClassDef | Function | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Found:
    """A definition, and the module in whose names it is written."""

    module: str
    node: Node


def installed_root(package: str) -> Path:
    """Return the folder of an installed top-level package; it is not imported.

    Raises: ModuleNotFoundError.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(package)
    return Path(next(iter(spec.submodule_search_locations)))


class Sources:
    """The modules of one package: definitions by name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trees: dict[str, ast.Module | None] = {}

    @property
    def release(self) -> str:
        """The version as `_version.py` has it."""
        found = self.find(f"{self._root.name}._version", "version")
        value = found.node.value if found and isinstance(found.node, ast.Assign | ast.AnnAssign) else None
        return str(value.value) if isinstance(value, ast.Constant) else "unknown"

    def holds(self, text: Text) -> tuple[str, ...]:
        """Return which of the texts are in the file; none if there is no such file."""
        path = self._root / text.path
        content = path.read_bytes() if path.is_file() else b""
        return tuple(wanted for wanted in text.texts if wanted.encode() in content)

    def find(self, module: str, qualname: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Found | None:
        """Return the definition of a name in a module, followed to where it stands; None if it is not there."""
        name, _, member = qualname.partition(".")
        found = self._find_top(module, name, seen)
        if not member or found is None:
            return found
        return next((node for node in self.members(found, member) if isinstance(node.node, Function)), None)

    def lineage(self, found: Found) -> Iterator[Found]:
        """Yield a class and then its base classes, as far as they are in the package."""
        if not isinstance(found.node, ast.ClassDef):
            return
        yield found
        for base in found.node.bases:
            name = dotted(base.value if isinstance(base, ast.Subscript) else base)
            parent = self.find(found.module, name) if name and "." not in name else None
            if parent is not None and parent != found:
                yield from self.lineage(parent)

    def members(self, found: Found, name: str) -> Iterator[Found]:
        """Yield what a class and its bases define under a name in their bodies, the nearest first."""
        for owner in self.lineage(found):
            assert isinstance(owner.node, ast.ClassDef)
            node = _last(owner.node.body, name)
            if node is not None:
                yield Found(owner.module, node)

    def _find_top(self, module: str, name: str, seen: frozenset[tuple[str, str]]) -> Found | None:
        tree = self._parse(module)
        if tree is None or (module, name) in seen:
            return None
        node = _last(tree.body, name)
        if isinstance(node, ast.ClassDef | Function):
            return Found(module, node)
        seen |= {(module, name)}
        for statement in flatten(tree.body):
            if isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    if alias.name == "*" or (alias.asname or alias.name) == name:
                        origin = self._absolute(module, statement)
                        found = self.find(origin, name if alias.name == "*" else alias.name, seen)
                        if found is not None:
                            return found
        meant = node.value.id if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) else None
        followed = self.find(module, meant, seen) if meant else None
        return followed or (None if node is None else Found(module, node))

    def _path(self, module: str) -> Path | None:
        package, *rest = module.split(".")
        base = self._root.joinpath(*rest)
        candidates = (base / "__init__.py", base.with_suffix(".py"))
        return next((path for path in candidates if path.is_file()), None) if package == self._root.name else None

    def _parse(self, module: str) -> ast.Module | None:
        if module not in self._trees:
            path = self._path(module)
            self._trees[module] = None if path is None else ast.parse(path.read_bytes())
        return self._trees[module]

    def _absolute(self, module: str, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        path = self._path(module)
        up = statement.level - (path is not None and path.name == "__init__.py")
        parts = module.split(".")
        return ".".join([*parts[: len(parts) - up], *([statement.module] if statement.module else [])])


def flatten(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements and those under if, try and with, but none of functions or classes."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from flatten(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from flatten(handler.body)


def _last(body: Sequence[ast.stmt], name: str) -> Node | None:
    """Return what defines a name last: of overloads the function itself; a class or function before an assignment."""
    nodes = [node for node in flatten(body) if isinstance(node, Node) and name in _names(node)]
    definitions = [node for node in nodes if isinstance(node, ast.ClassDef | Function)]
    return (definitions or nodes or [None])[-1]


def _names(node: Node) -> list[str]:
    if isinstance(node, ast.ClassDef | Function):
        return [node.name]
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
