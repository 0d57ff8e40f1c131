"""The live view on disk, RUN/live.json, which `sweep watch` reads from another terminal.

The driver's process writes the file at most once a second, whole or not at all. It never waits for a reader.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner.results.atomic_files import write_atomically
from runner.results.live import SweepView

LIVE_FILE = "live.json"
PUBLISH_PERIOD_S = 1.0

_VIEW = TypeAdapter(SweepView)


def publish_views(directory: Path, show: Callable[[SweepView], None]) -> Callable[[SweepView], None]:
    """Return a function that shows a view and, at most once a second, writes it into the run directory too.

    Args:
        directory: the run directory.
        show: takes every view.
    """
    next_s = 0.0

    def show_and_publish(view: SweepView) -> None:
        nonlocal next_s
        show(view)
        if time.monotonic() >= next_s:
            write_atomically(directory / LIVE_FILE, json.dumps(asdict(view)).encode())
            next_s = time.monotonic() + PUBLISH_PERIOD_S

    return show_and_publish


def read_view(directory: Path) -> SweepView | None:
    """Return the last view that was published; None if there is none, or one of another release."""
    try:
        return _VIEW.validate_json((directory / LIVE_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
