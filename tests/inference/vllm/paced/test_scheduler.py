"""The paced scheduler, over a stand-in for vLLM's own."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from runner.inference.vllm import core_compat
from runner.inference.vllm.paced.pace import HOLD, RELEASE

MODULE = "runner.inference.vllm.paced.scheduler"


class StandInScheduler:
    def __init__(self):
        self.states = []
        self.finished = []

    def set_pause_state(self, pause_state):
        self.states.append(pause_state)

    def finish_requests(self, request_ids, finished_status):
        self.finished.append((request_ids, finished_status))
        return "what vLLM returns"


@pytest.fixture
def scheduler(monkeypatch):
    pause_state = SimpleNamespace(PAUSED_ALL="paused", UNPAUSED="unpaused")
    monkeypatch.setitem(sys.modules, "vllm.v1.core.sched.interface", SimpleNamespace(PauseState=pause_state))
    monkeypatch.setattr(core_compat, "scheduler_class", lambda: StandInScheduler)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield importlib.import_module(MODULE).PacedScheduler()
    sys.modules.pop(MODULE, None)  # its base is the stand-in


def test_nothing_is_scheduled_between_the_marks(scheduler):
    scheduler.finish_requests([HOLD], "aborted")
    assert scheduler.states == ["paused"]
    scheduler.finish_requests([RELEASE], "aborted")
    assert scheduler.states == ["paused", "unpaused"]


@pytest.mark.parametrize("request_ids", [None, "a", ["a", "b"], [HOLD, "a"]])
def test_requests_are_ended_as_vllm_ends_them(scheduler, request_ids):
    assert scheduler.finish_requests(request_ids, "aborted") == "what vLLM returns"
    assert scheduler.finished == [(request_ids, "aborted")]


def test_ids_that_can_be_read_once_reach_vllm_all_the_same(scheduler):
    scheduler.finish_requests(iter(["a", HOLD, "b"]), "aborted")
    assert scheduler.finished == [(["a", HOLD, "b"], "aborted")]
    assert scheduler.states == ["paused"]
