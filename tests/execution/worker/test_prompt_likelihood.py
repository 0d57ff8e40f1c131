"""The likelihood of prompts, measured once and outside every window, with an engine that makes them up."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.analysis.window.requests_table import build_requests_table
from runner.execution.worker.prompt_likelihood import note_likelihoods
from runner.execution.worker.trial.measure import InterruptedTrialError, TrialContext
from runner.execution.worker.trial.procedure import Procedure
from runner.inference.engine import Sampling
from runner.spec.load import SINGLE, Load
from runner.spec.operating_point import OperatingPoint
from runner.spec.request import Completion, Request
from tests.execution.trial_contexts import VirtualContext, make_requests, open_context

PROCEDURE = Procedure(sampling=Sampling(), min_window_s=0.0, num_warmup_requests=0, deadline_s=60.0)


class Oracle:
    """Answers with log-likelihoods: each scored token has -0.001 times its id."""

    def __init__(self, read_clock: Callable[[], Any] = lambda: None) -> None:
        self.asked: list[Request] = []
        self.clocks: list[Any] = []
        self.loads: list[Load] = []
        self.failing: set[str] = set()
        self._read_clock = read_clock

    def run(self, requests: Iterator[Request], load: Load, *_: Any, **__: Any) -> SimpleNamespace:
        self.loads.append(load)
        self.clocks.append(self._read_clock())
        asked = list(requests)
        self.asked += asked
        return SimpleNamespace(completions=[self._answer(request) for request in reversed(asked)])

    def _answer(self, request: Request) -> Completion:
        scored = request.prompt_token_ids[request.num_context_tokens :]
        failed = request.request_id in self.failing
        return Completion(
            request_id=request.request_id,
            sample_id=request.sample_id,
            kind=request.kind,
            num_prompt_tokens=len(request.prompt_token_ids),
            loglikelihood=None if failed else -0.001 * sum(scored),
            error="too late" if failed else None,
        )


def ask(*token_ids: int, request_id: str = "qa/0", **changes: Any) -> Request:
    request = Request(
        request_id=request_id,
        sample_id="qa/0",
        kind="generate",
        prompt_token_ids=token_ids,
        num_context_tokens=len(token_ids),
        max_output_tokens=4,
    )
    return replace(request, **changes)


@pytest.fixture
def virtual(tmp_path: Path) -> Iterator[VirtualContext]:
    with open_context(tmp_path) as context:
        yield context


def sit(virtual: VirtualContext, oracle: Oracle) -> TrialContext:
    return replace(virtual.context, engine=oracle)  # type: ignore[arg-type]


def test_it_is_the_mean_over_every_token_but_the_first(virtual: VirtualContext) -> None:
    context = sit(virtual, Oracle())
    note_likelihoods(context, "qa", [ask(900, 1000, 3000), ask(7, request_id="qa/1")], PROCEDURE)
    assert context.prompt_likelihood_nats == {"qa": {"qa/0": pytest.approx(2.0), "qa/1": None}}


def test_choices_of_one_question_share_a_prompt_that_is_asked_once_and_alone(virtual: VirtualContext) -> None:
    oracle = Oracle()
    context = sit(virtual, oracle)
    choices = [
        ask(5, 1000, 2000, 40 + k, request_id=f"qa/0/{k}", kind="loglikelihood", num_context_tokens=3) for k in range(4)
    ]
    note_likelihoods(context, "qa", choices, PROCEDURE)
    assert [request.prompt_token_ids for request in oracle.asked] == [(5, 1000, 2000)]
    assert oracle.loads == [SINGLE]
    assert context.prompt_likelihood_nats["qa"] == {f"qa/0/{k}": pytest.approx(1.5) for k in range(4)}


def test_a_task_is_asked_once_for_each_engine(virtual: VirtualContext) -> None:
    oracle = Oracle()
    context = sit(virtual, oracle)
    for task in ("qa", "qa", "facts"):
        note_likelihoods(context, task, [ask(1, 2)], PROCEDURE)
    assert len(oracle.asked) == 2


def test_it_is_asked_at_the_gpus_own_clock(virtual: VirtualContext) -> None:
    def read_clock() -> int | None:
        return virtual.state.settings_history()[-1].sm_clock_mhz

    virtual.context.lease.apply(OperatingPoint(sm_clock_mhz=990))
    assert read_clock() == 990
    oracle = Oracle(read_clock)
    note_likelihoods(sit(virtual, oracle), "qa", [ask(1, 2)], PROCEDURE)
    assert oracle.clocks == [None]


def test_a_request_that_failed_leaves_null(virtual: VirtualContext) -> None:
    oracle = Oracle()
    oracle.failing = {"qa/0"}
    context = sit(virtual, oracle)
    note_likelihoods(context, "qa", [ask(1, 2), ask(1, 500, request_id="qa/1")], PROCEDURE)
    assert context.prompt_likelihood_nats["qa"] == {"qa/0": None, "qa/1": pytest.approx(0.5)}


def test_a_run_that_is_stopped_keeps_nothing(virtual: VirtualContext) -> None:
    context = sit(virtual, Oracle())
    with pytest.raises(InterruptedTrialError):
        note_likelihoods(context, "qa", [ask(1, 2)], PROCEDURE, is_interrupted=lambda: True)
    assert context.prompt_likelihood_nats == {}


def test_every_repetition_of_a_prompt_carries_it_and_other_tasks_do_not(virtual: VirtualContext) -> None:
    requests = make_requests(64, 8, num_requests=2)
    note_likelihoods(sit(virtual, Oracle()), "qa", requests, PROCEDURE)
    expected = {
        request.sample_id: 0.001 * sum(request.prompt_token_ids[1:]) / (len(request.prompt_token_ids) - 1)
        for request in requests
    }
    for task, is_known in (("qa", True), ("facts", False)):
        identity = {"concurrency": 1, "task": task}
        measurement = virtual.measure(requests, identity, min_window_s=0.0, repeat_each_s=2.0)
        table = build_requests_table(measurement, {})
        assert table.height > 4
        for sample_id, likelihood_nats in table.select("sample_id", "prompt_surprise_nats").iter_rows():
            assert likelihood_nats == (pytest.approx(expected[sample_id]) if is_known else None)


def test_an_engine_without_likelihoods_leaves_null(virtual: VirtualContext) -> None:
    requests = make_requests(64, 8, num_requests=2)
    note_likelihoods(virtual.context, "qa", requests, PROCEDURE)
    assert virtual.context.prompt_likelihood_nats == {"qa": {request.request_id: None for request in requests}}
