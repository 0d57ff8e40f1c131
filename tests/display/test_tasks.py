"""The list of tasks, on a terminal and in a pipe."""

import io
from collections.abc import Callable

import pytest
from rich.console import RenderableType

from runner.display.tasks import list_tasks_by_line, print_tasks, render_tasks
from runner.tasks.listing import ListedTask

LONG = "leaderboard_bbh_" + "_".join(["logical_deduction_seven_objects"] * 3)
TASKS = [
    ListedTask(name="tiny_qa", kind="generating", origin="own", about="question answering", metric="exact_match"),
    ListedTask(name="narrativeqa_summary", kind="generating", origin="study", about="question answering " * 5),
    ListedTask(name=LONG, kind="prefill only", origin="harness"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_for_each_task() -> None:
    header, first, second, third, blank, explanation = list_tasks_by_line(TASKS, num_left_out=0)
    assert header.split() == ["task", "kind", "from", "metric", "about"]
    assert first.split() == ["tiny_qa", "generating", "own", "exact_match", "question", "answering"]
    assert second.startswith("narrativeqa_summary ")
    assert third.split() == [LONG, "prefill", "only", "harness"]
    assert first.index("generating") == third.index("prefill only") == header.index("kind")
    assert blank == ""
    assert '[[task]] name = "NAME"' in explanation


def test_tasks_that_are_left_out_are_counted() -> None:
    *_, last = list_tasks_by_line(TASKS, num_left_out=1234)
    assert last.startswith("And 1,234 more of lm-evaluation-harness: `sweep tasks WORD` searches their names")


def test_a_terminal_gets_a_table_that_fits(render: Callable[[RenderableType, int, int], str]) -> None:
    lines = [line.rstrip() for line in render(render_tasks(TASKS, num_left_out=1), 80, 40).splitlines()]
    assert max(map(len, lines)) <= 80
    [name] = [line for line in lines if "narrativeqa_summary" in line]
    assert name.split()[1:3] == ["generating", "study"]
    assert "leaderboard_bbh_" in "".join(lines)


def test_what_is_printed_depends_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_table in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stdout", stream)
        print_tasks(TASKS, num_left_out=0)
        assert ("───" in stream.getvalue()) == is_table
        assert "tiny_qa" in stream.getvalue()
