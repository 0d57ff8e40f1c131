import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from runner.inference.vllm.processes import EngineProcesses, OutputLog, default_environment, watch


@pytest.fixture
def sleeper():
    """An engine of one process that does nothing."""
    processes = EngineProcesses()
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    processes.find()
    yield child, processes
    processes.kill()
    child.join()


def test_processes_are_those_started_since(sleeper):
    child, processes = sleeper
    assert processes.ids == [child.pid]
    later = EngineProcesses()
    later.find()
    assert later.ids == []


def test_what_does_not_end_is_killed(sleeper):
    child, processes = sleeper
    processes.end(timeout_s=0.1)
    with suppress(psutil.NoSuchProcess):  # it is usually gone by now
        psutil.Process(child.pid).wait(60)
    assert processes.ids == []


def test_time_limit_kills_and_wakes(sleeper):
    child, processes = sleeper
    woken = threading.Event()
    with watch(processes, limit_s=0.1, on_death=woken.set) as out_of_time:
        child.join(60)
        assert woken.wait(60)
    assert out_of_time.is_set()
    assert not child.is_alive()


def test_death_wakes_without_a_limit(sleeper):
    child, processes = sleeper
    woken = threading.Event()
    with watch(processes, on_death=woken.set) as out_of_time:
        child.kill()
        assert woken.wait(60)
    assert not out_of_time.is_set()


def test_a_block_that_waits_twice_is_woken_twice(sleeper):
    child, processes = sleeper
    calls = threading.Semaphore(0)
    with watch(processes, on_death=calls.release):
        child.kill()
        assert calls.acquire(timeout=60)
        assert calls.acquire(timeout=60)


def test_nothing_happens_in_time(sleeper):
    child, processes = sleeper
    with watch(processes, limit_s=60, on_death=pytest.fail) as out_of_time:
        time.sleep(0.3)
    assert not out_of_time.is_set()
    assert child.is_alive()


def test_environment_is_set_for_the_block_and_the_users_own_stays(monkeypatch):
    monkeypatch.setenv("MINE", "mine")
    monkeypatch.delenv("THEIRS", raising=False)
    with default_environment({"MINE": "other", "THEIRS": "theirs"}):
        assert (os.environ["MINE"], os.environ["THEIRS"]) == ("mine", "theirs")
    assert os.environ["MINE"] == "mine"
    assert "THEIRS" not in os.environ


def test_output_of_children_goes_to_the_log(capfd):
    log = OutputLog()
    with log.capture():
        subprocess.run([sys.executable, "-c", "print('one'); print('two'); print('three')"], check=True)
    print("seen")
    assert log.tail(2) == "two\nthree"
    assert capfd.readouterr().out == "seen\n"
    log.remove()
    assert log.tail() == ""
