"""`sweep doctor` on a terminal."""

from collections.abc import Callable

from rich.console import RenderableType

from runner.display.doctor import render_checks
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
