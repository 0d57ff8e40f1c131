"""Messages about a sweep file: each names the field, its value, what is allowed, and the nearest valid name.

The details of pydantic's errors enter. One line for each leaves.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table { key = value }",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "string_type": "a string in quotes",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
# Branches of a union and validators put names into the location that are not in the file.
_NOT_IN_FILE = re.compile(r"[\[( ]|^(int|str|float)$")


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return '; did you mean "x"?' for the nearest of `names`, or "" where none is near."""
    near = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def explain(details: ErrorDetails, root: type[BaseModel]) -> str:
    """Return one error in words. `root` is the model of the whole file; its fields are the allowed names."""
    parts = [part for part in details["loc"] if isinstance(part, int) or not _NOT_IN_FILE.search(part)]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _explain_unknown_key(parts, field, root)
    if kind == "missing":
        whole = ": a sweep needs name, at least one [[model]] and at least one [[task]]" if len(parts) == 1 else ""
        return f"{field} is missing{whole}"
    if kind == "too_short":
        return f"{field} is empty: give at least one value"
    value = details["input"]
    shown = f"{field} = {_as_toml(value)}"
    if kind == "value_error":
        message = str(context["error"])
        if message.startswith(("is ", "contains ")):
            return f"{shown} {message}"
        return f"{field}: {message}" if field else message
    return f"{shown} {_explain_value(kind, value, context, details['msg'])}"


def _explain_value(kind: str, value: object, context: dict[str, Any], message: str) -> str:
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"is out of range: it must be {words} {context[key]}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']+)'", str(context["expected"]))
        return f"is not allowed: give {' or '.join(allowed)}{did_you_mean(str(value), allowed)}"
    if kind == "string_pattern_mismatch":
        return 'is not a name: use letters, digits, ".", "_" and "-", and begin with a letter or digit'
    return f"is not allowed: give {_EXPECTED.get(kind) or message.lower()}"


def _explain_unknown_key(parts: Sequence[int | str], field: str, root: type[BaseModel]) -> str:
    spec = root
    for part in parts[:-1]:
        if isinstance(part, str):
            spec = _specs_in(spec.model_fields[part].annotation)[0]
    names = list(spec.model_fields)
    where = f" in {field.rpartition('.')[0]}" if "." in field else ""
    return f'"{parts[-1]}" is not a key{where}: the keys are {", ".join(names)}{did_you_mean(str(parts[-1]), names)}'


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(_as_toml, value))}]" if isinstance(value, list | tuple) else str(value)


def _specs_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _specs_in(argument)]
