"""Small samples of other tools' results, written by hand after their own code, and what is compared with them."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "samples"


def sample(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def kinds(value: Any) -> Any:
    """Return what a reader depends on: keys, and the types of their values. Whole numbers are numbers; null is null."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [kinds(value[0])] if value else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__
