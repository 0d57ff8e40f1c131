"""Whether clocks and limits may be set at all. SWEEP_CLOCKS=read-only overrides everything else."""

import os
from typing import Literal

ClocksMode = Literal["apply", "read-only"]
CLOCKS_VARIABLE = "SWEEP_CLOCKS"


def resolve_clocks_mode(flag: str | None, sweep_file_value: str | None = None) -> ClocksMode:
    """Return the mode: read-only where SWEEP_CLOCKS says so, else the flag, SWEEP_CLOCKS, the sweep file, or "apply".

    Raises: ValueError: one of them is neither "apply" nor "read-only"; the message names it.
    """
    environment = _parse_mode(CLOCKS_VARIABLE, os.environ.get(CLOCKS_VARIABLE) or None)
    from_flag = _parse_mode("--clocks", flag)
    from_file = _parse_mode("clocks in the sweep file", sweep_file_value)
    if environment == "read-only":
        return "read-only"
    return from_flag or environment or from_file or "apply"


def environment_forbids_setting() -> bool:
    """Return whether SWEEP_CLOCKS forbids every setting. An unknown value forbids it too."""
    return os.environ.get(CLOCKS_VARIABLE, "") not in ("", "apply")


def _parse_mode(place: str, value: str | None) -> ClocksMode | None:
    match value:
        case None | "apply" | "read-only":
            return value
    raise ValueError(f"{place} is {value!r}; it may be apply or read-only")
