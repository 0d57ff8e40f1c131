"""The live view as lines of text for pipes, logs and CI.

`SweepView`s enter; lines leave. `PlainLines` has the interface of `dashboard.Dashboard`.
"""

import sys
from collections import Counter
from types import TracebackType
from typing import TextIO

from runner.display.text.quantities import format_duration, format_energy, format_power, format_timestamp
from runner.display.text.simulated import SIMULATED_MEANING, SIMULATED_NOTICE
from runner.results.live import Event, SweepView

PROGRESS_PERIOD_S = 10.0
_MARKS = {"info": "", "warning": "warning: ", "error": "error: "}


class PlainLines:
    """Prints a line for each new event, and a line of progress at most every PROGRESS_PERIOD_S of the view's time.

    A context manager. On exit it prints the progress once more.

    Args:
        stream: where the lines go; standard output unless given.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._view: SweepView | None = None
        self._last_event: Event | None = None
        self._progress_shown_s = 0.0

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._print(self._view.elapsed_s, _progress(self._view))

    def update(self, view: SweepView) -> None:
        """Print what is new in this view."""
        if self._view is None:
            self._print(view.elapsed_s, _first_line(view))
        for event in self._new_events(view):
            elapsed_s = view.elapsed_s if view.start_ns is None else (event.time_ns - view.start_ns) / 1e9
            self._print(elapsed_s, _MARKS[event.level] + " ".join(event.message.split()))
        if view.elapsed_s - self._progress_shown_s >= PROGRESS_PERIOD_S:
            self._print(view.elapsed_s, _progress(view))
            self._progress_shown_s = view.elapsed_s
        self._view = view

    def _new_events(self, view: SweepView) -> tuple[Event, ...]:
        """Return the events after the last printed one, or all of them if the view no longer has that one."""
        new = view.events
        if self._last_event in new:
            new = new[len(new) - new[::-1].index(self._last_event) :]
        if new:
            self._last_event = new[-1]
        return new

    def _print(self, elapsed_s: float, text: str) -> None:
        print(f"[{format_timestamp(elapsed_s):>7}] {text}", file=self._stream, flush=True)


def _first_line(view: SweepView) -> str:
    resumed = f", {view.num_resumed:,} of them done before" if view.num_resumed else ""
    simulated = f"; {SIMULATED_NOTICE}: {SIMULATED_MEANING}" if view.simulated else ""
    return f"{view.name}: {_count_trials(view.num_trials)}{resumed}, results in {view.run_directory}{simulated}"


def _count_trials(number: int) -> str:
    return f"{number:,} trial{'' if number == 1 else 's'}"


def _progress(view: SweepView) -> str:
    parts = [f"{view.num_done:,} of {_count_trials(view.num_trials)}"]
    if view.num_failed:
        parts.append(f"{view.num_failed:,} failed")
    if view.num_with_verdicts:
        parts.append(f"{view.num_with_verdicts:,} with verdicts")
    parts.append(format_energy(view.energy_j))
    known_w = [gpu.power_w for gpu in view.gpus if gpu.power_w is not None]
    if known_w:
        parts.append(format_power(sum(known_w)))
    phases = Counter(gpu.phase for gpu in view.gpus)
    parts += [f"{number} {phase}" if len(view.gpus) > 1 else phase for phase, number in phases.most_common()]
    if view.remaining_s is not None and view.num_done < view.num_trials:
        parts.append(f"about {format_duration(view.remaining_s, whole_minutes=True)} left")
    return ", ".join(parts)
