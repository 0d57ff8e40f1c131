"""The live view on disk, RUN/live.json: how `sweep watch` sees a run from another terminal.

The driver's process writes it once a second at most, whole or not at all; nobody waits for whoever reads it.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner.results.live import SweepView
from runner.results.run_directory import write_atomically

LIVE_FILE = "live.json"
PUBLISH_PERIOD_S = 1.0

_VIEW = TypeAdapter(SweepView)


def publish_views(directory: Path, show: Callable[[SweepView], None]) -> Callable[[SweepView], None]:
    """Return what shows a view and, once a second at most, writes it into the run directory too."""
    next_s = 0.0

    def show_and_publish(view: SweepView) -> None:
        nonlocal next_s
        show(view)
        if time.monotonic() >= next_s:
            write_atomically(directory / LIVE_FILE, json.dumps(asdict(view)).encode())
            next_s = time.monotonic() + PUBLISH_PERIOD_S

    return show_and_publish


def read_view(directory: Path) -> SweepView | None:
    """Return the last view that was published; None where there is none, or one of another release."""
    try:
        return _VIEW.validate_json((directory / LIVE_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
