"""Checks what a package's sources hold of the interfaces that we rely on, and keeps it as a snapshot.

A snapshot holds the same facts as JSON, so that a release that is not installed can be checked too.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.interfaces.interface import Interface, Text
from tests.interfaces.sources import Found, Function, Node, Sources, dotted, flatten

_KEYWORD_ONLY = "*"
_SETTERS = ("__init__", "__post_init__")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a release has of one interface, cut down to what is relied on."""

    parameters: tuple[str, ...] = ()
    """In order: "name", "name=" (has a default), "*" (by keyword from here), "*args", "**kwargs"."""
    attributes: tuple[str, ...] = ()


def read_signature(sources: Sources, interface: Interface) -> Signature | None:
    """Return what the sources have of an interface; None if its name is not there."""
    found = sources.find(interface.module, interface.qualname)
    if found is None:
        return None
    wanted = interface.attributes
    if isinstance(found.node, ast.ClassDef):
        parameters = _constructor(sources, found)
        attributes = tuple(name for name in wanted if _has(sources, found, name))
    elif isinstance(found.node, Function):
        parameters, attributes = _parameters(found.node, is_method="." in interface.qualname), ()
    else:
        parameters, keys = (), _keys(found.node)
        attributes = tuple(name for name in wanted if name in keys)
    return Signature(_cut(interface, parameters), attributes)


def find_problems(interface: Interface, signature: Signature | None) -> list[str]:
    """Say what an interface lacks in a release; nothing if it may be used as it is."""
    if signature is None:
        return [f"{interface.key} is not there"]
    problems = [f"no attribute {name}" for name in interface.attributes if name not in signature.attributes]
    names = [parameter.rstrip("=") for parameter in signature.parameters]
    takes_any = any(name.startswith("**") for name in names)
    if not takes_any:
        problems += [f"no parameter {name}" for name in interface.parameters if name not in names]
    by_place = names[: next((place for place, name in enumerate(names) if name.startswith("*")), len(names))]
    for place, name in enumerate(interface.parameters[: interface.positional]):
        if by_place[place : place + 1] != [name]:
            problems.append(f"{name} is not parameter {place + 1}")
    others = [name for name in signature.parameters if not name.startswith("*")]
    others = [name for name in others if name.rstrip("=") not in interface.parameters]
    if interface.use == "call":
        problems += [f"requires {name}" for name in others if not name.endswith("=")]
    elif interface.use == "override":
        problems += [f"takes {name} too" for name in others]
    return [f"{interface.key}: {problem}" for problem in problems]


def make_snapshot(root: Path, interfaces: Iterable[Interface], texts: Iterable[Text]) -> dict[str, Any]:
    """Return the facts of one release as JSON holds them; what is not there is null."""
    sources = Sources(root)
    signatures = {interface.key: read_signature(sources, interface) for interface in interfaces}
    held: dict[str, list[str]] = {}
    for text in texts:
        held.setdefault(text.path, []).extend(sources.holds(text))
    return {
        "package": root.name,
        "release": sources.release,
        "interfaces": {key: None if found is None else _facts(found) for key, found in signatures.items()},
        "texts": held,
    }


def check_snapshot(snapshot: dict[str, Any], interfaces: Iterable[Interface], texts: Iterable[Text]) -> list[str]:
    """Say what a release lacks, from its snapshot alone."""
    problems = []
    for interface in interfaces:
        facts = snapshot["interfaces"].get(interface.key)
        signature = None if facts is None else Signature(**{kind: tuple(names) for kind, names in facts.items()})
        problems += find_problems(interface, signature)
    for text in texts:
        held = snapshot["texts"].get(text.path, [])
        problems += [f"{text.path} does not hold {wanted}" for wanted in text.texts if wanted not in held]
    return problems


def _facts(signature: Signature) -> dict[str, list[str]]:
    facts = {"parameters": list(signature.parameters), "attributes": list(signature.attributes)}
    return {kind: names for kind, names in facts.items() if names}


def _has(sources: Sources, found: Found, name: str) -> bool:
    """Whether a class or a base of it defines a name in its body, or sets it on the instance when it is made."""
    if any(True for _ in sources.members(found, name)):
        return True
    setters = (node for setter in _SETTERS for node in sources.members(found, setter))
    return any(isinstance(node.node, Function) and name in _set_on_self(node.node) for node in setters)


@cache
def _set_on_self(function: Function) -> frozenset[str]:
    instance = function.args.args[0].arg if function.args.args else ""
    return frozenset(
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node.value) == instance
    )


def _parameters(function: Function, *, is_method: bool) -> tuple[str, ...]:
    arguments = function.args
    by_place = [*arguments.posonlyargs, *arguments.args]
    num_required = len(by_place) - len(arguments.defaults)
    names = [argument.arg + "=" * (place >= num_required) for place, argument in enumerate(by_place)]
    is_static = any(dotted(decorator) == "staticmethod" for decorator in function.decorator_list)
    if is_method and not is_static:
        names = names[1:]
    if arguments.vararg or arguments.kwonlyargs:
        names.append(_KEYWORD_ONLY + (arguments.vararg.arg if arguments.vararg else ""))
    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    names += [argument.arg + "=" * (default is not None) for argument, default in defaults]
    return (*names, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg else []))


def _constructor(sources: Sources, found: Found) -> tuple[str, ...]:
    """Return the parameters of `__init__`, or of a class without one (dataclass, struct) its annotated fields."""
    for node in sources.members(found, "__init__"):
        if isinstance(node.node, Function):
            return _parameters(node.node, is_method=True)
    owners = reversed([owner.node for owner in sources.lineage(found) if isinstance(owner.node, ast.ClassDef)])
    fields = (
        statement for owner in owners for statement in flatten(owner.body) if isinstance(statement, ast.AnnAssign)
    )
    names = {
        field.target.id: field.target.id + "=" * (field.value is not None)
        for field in fields
        if isinstance(field.target, ast.Name) and "ClassVar" not in ast.unparse(field.annotation)
    }
    return tuple(names.values())


def _keys(node: Node) -> frozenset[str]:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    keys = value.keys if isinstance(value, ast.Dict) else []
    return frozenset(key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def _cut(interface: Interface, parameters: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the parameters that nobody relies on and that stand in nobody's way."""
    if not interface.parameters and interface.use == "read":
        return ()
    kept = []
    for place, parameter in enumerate(parameters):
        is_used = parameter.rstrip("=") in interface.parameters or place < interface.positional
        is_required = interface.use == "call" and not parameter.endswith("=")
        if is_used or is_required or parameter.startswith("*") or interface.use == "override":
            kept.append(parameter)
    return tuple(kept[:-1] if kept[-1:] == [_KEYWORD_ONLY] else kept)
