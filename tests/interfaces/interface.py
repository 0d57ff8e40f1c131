"""What this program relies on in a package beyond its documented interface, as facts that can be checked."""

from dataclasses import dataclass
from typing import Literal

Use = Literal["read", "call", "override"]
"""How an interface is used.

read: the names exist. call: it also requires no argument but the given ones. override: a function of ours replaces it,
so it takes these parameters and no others.
"""


@dataclass(frozen=True, slots=True)
class Interface:
    """One class, function or value of a package, and what is used of it."""

    module: str
    """The module that it is imported from, e.g. "vllm.v1.engine.core_client"."""
    qualname: str
    """Its name there: "Class", "Class.method", "function" or "VALUE"."""
    parameters: tuple[str, ...] = ()
    """Parameters of the call. For a class they are those of its constructor."""
    attributes: tuple[str, ...] = ()
    """Fields, properties, methods, or attributes that `__init__` sets. For a dict in the source, its keys."""
    positional: int = 0
    """How many of the parameters, from the first on, are given by position."""
    use: Use = "read"

    @property
    def key(self) -> str:
        """Its name in a snapshot."""
        return f"{self.module}:{self.qualname}"


@dataclass(frozen=True, slots=True)
class Text:
    """Text that a file of a package contains. It stands for what has no name that could be looked up."""

    path: str
    """Relative to the package's folder."""
    texts: tuple[str, ...]
