"""The order of requests in the trials of a block, in virtual time and without Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.execution.worker.block_measurer import BlockMeasurer, _PreparedBlock
from runner.execution.worker.trial.procedure import choose_procedure
from runner.results.measurement import Measurement
from runner.spec.load import OpenLoop
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials
from runner.tasks.task import TaskError
from tests.execution.trial_contexts import VirtualContext, make_identity, make_requests, open_context

TASK = {"name": "synthetic", "num_prompt_tokens": 128, "num_output_tokens": 64, "num_requests": 40}


class Reporter:
    """Keeps what is handed over."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []

    def update(self, **_: Any) -> None: ...
    def send_progress(self, **_: Any) -> None: ...

    def finish(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)


def measure_orders(context: VirtualContext, *trial_ids: str, **changes: Any) -> list[list[str]]:
    """Return the order in which the requests of each trial started."""
    sweep = parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK], "min_window_s": 0.0} | changes)
    [block] = expand_trials(sweep)
    reporter: Any = Reporter()
    slot: Any = None
    session: Any = SimpleNamespace(sensors_at_rest=None)
    measurer = BlockMeasurer(sweep, session, slot, reporter, is_interrupted=lambda: False)
    prepared = _PreparedBlock(
        context=context.context, requests=make_requests(), procedure=choose_procedure(sweep, block), load=block.load
    )
    for trial_id in trial_ids:
        measurer._measure(prepared, make_identity(trial_id=trial_id), None)
    starts = ([(c.queued_ns, c.request_id) for c in m.completions] for m in reporter.measurements)
    return [[request_id for _, request_id in sorted(each)] for each in starts]


def test_trials_whose_windows_may_be_cut_have_an_order_of_their_own(tmp_path: Path) -> None:
    with open_context(tmp_path) as context:
        one, other, again = measure_orders(context, "t0", "t1", "t0", max_window_s=60.0)
        plain, same = measure_orders(context, "t0", "t1")
        static = [TASK | {"phases": "static_batches"}]
        batches, kept = measure_orders(context, "t0", "t1", task=static, max_window_s=60.0)
    assert sorted(one) == sorted(other) == sorted(plain)
    assert one == again
    assert one != other
    assert plain == same
    assert batches == kept


class CapacityReporter(Reporter):
    """Keeps capacities as the aggregator does."""

    def __init__(self) -> None:
        super().__init__()
        self.capacities: dict[str, float] = {}
        self.said: list[str] = []

    def read_capacity(self, key: str) -> float | None:
        return self.capacities.get(key)

    def keep_capacity(self, key: str, about: Any, capacity_per_s: float) -> float:
        return self.capacities.setdefault(key, capacity_per_s)

    def say(self, level: str, kind: str, message: str) -> None:
        self.said.append(kind)


def find_load(context: VirtualContext, reporter: Any, rate: str, ttft: str) -> Any:
    """Return the load of a block that asks for a share of the capacity."""
    asked = {"axes": {"request_rate": [rate]}, "slo": {"ttft": ttft}, "min_window_s": 4.0}
    sweep = parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK]} | asked)
    [block] = expand_trials(sweep)
    session: Any = SimpleNamespace(sensors_at_rest=None, info=context.gpu.info)
    no_slot: Any = None
    measurer = BlockMeasurer(sweep, session, no_slot, reporter, is_interrupted=lambda: False)
    procedure = choose_procedure(sweep, block)
    assert isinstance(block.load, OpenLoop)
    return measurer._find_rate(context.context, make_requests(), procedure, block, block.load)


def test_a_share_of_the_capacity_becomes_a_rate_and_the_capacity_is_sought_once(tmp_path: Path) -> None:
    reporter = CapacityReporter()
    with open_context(tmp_path) as context:
        half = find_load(context, reporter, "50%", "300 ms")
        tenth = find_load(context, reporter, "10%", "300 ms")
        with pytest.raises(TaskError, match="no request rate keeps the SLO at the default clock: TTFT ≤ 1 ms"):
            find_load(context, reporter, "50%", "1 ms")
    [capacity] = reporter.capacities.values()
    assert half.request_rate_per_s == pytest.approx(0.5 * capacity)
    assert tenth.request_rate_per_s == pytest.approx(0.1 * capacity)
    assert half.capacity_fraction == 0.5
    assert reporter.said == ["capacity_found"]
