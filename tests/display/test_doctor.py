"""`sweep doctor` on a terminal."""

import io
from collections.abc import Callable

from rich.console import Console, RenderableType

from runner.display.doctor import describe_looks, render_checks, show_looks
from runner.hardware.doctor import Check

OK = Check(level="ok", subject="engine", finding="vllm 0.32.0")
WARNING = Check(level="warning", subject="GPU 0", finding="persistence mode is off", advice="nvidia-smi -pm 1")
ERROR = Check(level="error", subject="GPUs", finding="no NVIDIA driver answers here", advice="sweep run --gpu sim")


def test_findings_are_lines_with_what_to_do_beneath(render: Callable[[RenderableType, int, int], str]) -> None:
    lines = [line.rstrip() for line in render(render_checks([OK, WARNING, ERROR]), 80, 20).splitlines()]
    assert lines == [
        "✓ engine  vllm 0.32.0",
        "! GPU 0   persistence mode is off",
        "          → nvidia-smi -pm 1",
        "✗ GPUs    no NVIDIA driver answers here",
        "          → sweep run --gpu sim",
        "This machine cannot measure yet.",
    ]


def test_the_last_line_counts_the_warnings(render: Callable[[RenderableType, int, int], str]) -> None:
    def last(*checks: Check) -> str:
        return render(render_checks(checks), 80, 20).splitlines()[-1].rstrip()

    assert last(OK) == "This machine can measure."
    assert last(OK, WARNING) == "This machine can measure, with one warning."
    assert last(WARNING, WARNING, OK) == "This machine can measure, with 2 warnings."


def test_details_are_for_those_who_ask(render: Callable[[RenderableType, int, int], str]) -> None:
    detail = Check(level="ok", subject="GPU 0", finding="sensor 'counter': every 100.0 ms", is_detail=True)
    drawn = [render(render_checks([OK, detail], verbose=verbose), 80, 20) for verbose in (False, True)]
    assert ["sensor 'counter'" in text for text in drawn] == [False, True]


def test_what_is_looked_at_is_one_line() -> None:
    assert describe_looks({}) == "Looking at this machine"
    assert describe_looks({"GPUs": "list"}) == "Looking at the list of GPUs"
    looks = {"GPU 10": "power sensors", "GPU 2": "power sensors", "GPU 1": "energy counter"}
    assert describe_looks(looks) == "Looking at the energy counter of GPU 1, the power sensors of GPU 2, GPU 10"


def show_in(console: Console, *, is_quiet: bool = False) -> str:
    with show_looks(console, is_quiet=is_quiet) as on_look:
        on_look("GPU 0", "power sensors")
        on_look("GPU 0", None)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_it_and_a_pipe_does_not() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert "Looking at" in show_in(terminal)
    assert show_in(Console(file=io.StringIO(), force_terminal=True, width=80), is_quiet=True) == ""
    assert show_in(Console(file=io.StringIO(), force_terminal=False, width=80)) == ""
