"""Processes, read from /proc."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runner.hardware.clocks.processes import (
    ProcessId,
    find_descendants,
    find_marked,
    identify_process,
    is_alive,
    kill_process,
    runs_module,
    wait_gone,
)
from tests.hardware.owners import wait_until


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], env={"SWEEP_TEST_MARK": "one two"}) as process:
        yield process
        process.kill()


def test_a_zombie_is_nobody(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify_process(sleeper.pid)
    assert process is not None
    assert is_alive(process)
    kill_process(process)
    assert wait_gone(process, 60.0)
    assert sleeper.returncode is None  # not yet reaped
    assert identify_process(sleeper.pid) is None


def test_a_pid_used_again_is_somebody_else(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify_process(sleeper.pid)
    assert process is not None
    earlier = ProcessId(process.pid, process.start_ticks - 1)
    assert not is_alive(earlier)
    kill_process(earlier)
    assert is_alive(process)
    assert not wait_gone(process, 0.05)


def test_descendants_are_found_over_generations() -> None:
    code = "import subprocess; subprocess.run(['sh', '-c', 'sleep 600; true'])"
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        me = identify_process(os.getpid())
        assert me is not None
        parent = identify_process(child.pid)
        assert parent is not None
        assert wait_until(lambda: len(find_descendants([parent])) == 2)
        found = {parent, *find_descendants([parent])}
        assert len(found) == 3
        assert found <= find_descendants([me])
        for process in found:
            kill_process(process)


def test_marks_are_whole_words(sleeper: subprocess.Popen[bytes]) -> None:
    marked = identify_process(sleeper.pid)
    # At first the kernel shows neither the environment nor the command line of a new program.
    assert wait_until(lambda: marked in find_marked("SWEEP_TEST_MARK", "two"))
    assert find_marked("SWEEP_TEST_MARK", "tw") == set()
    assert find_marked("TEST_MARK", "two") == set()


def test_modules_are_known_by_their_command() -> None:
    with subprocess.Popen(
        [sys.executable, "-i", "-m", "this"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as zen:
        process = identify_process(zen.pid)
        assert process is not None
        assert wait_until(lambda: runs_module(process, "this"))
        assert not runs_module(process, "th")
