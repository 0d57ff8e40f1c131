"""`sweep tasks` as part of a pipe, and in which order it lists what it finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from runner.cli import app
from runner.cli.errors import EXIT_BROKEN_PIPE

ROOT = Path(__file__).parents[2]


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def names(result: Result) -> list[str]:
    """The first word of each line up to the blank one, without the header."""
    assert result.exit_code == 0, result.output
    table, _, _ = result.stdout.partition("\n\n")
    return [line.split()[0] for line in table.splitlines()[1:]]


@pytest.mark.parametrize("word", ["mmlu", "hellaswag", "HellaSwag"])
def test_the_exact_name_comes_first_then_names_that_begin_with_the_word(word: str) -> None:
    found = names(sweep("tasks", word))
    assert found[0] == word.lower()
    begins = [name.lower().startswith(word.lower()) for name in found]
    assert begins == sorted(begins, reverse=True)
    assert not all(begins)
    assert found == [task["name"] for task in json.loads(sweep("tasks", word, "--json").stdout)]


def test_every_task_has_one_line_whatever_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    found = names(sweep("tasks", "--all"))
    assert found == [task["name"] for task in json.loads(sweep("tasks", "--all", "--json").stdout)]
    assert max(map(len, found)) > 40


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_ends_the_command_quietly(options: list[str]) -> None:
    command = [sys.executable, "-m", "runner.cli", "tasks", "--all", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == EXIT_BROKEN_PIPE
