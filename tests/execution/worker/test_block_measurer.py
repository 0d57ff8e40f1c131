"""The order of requests in the trials of a block, in virtual time and without Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runner.execution.worker.block_measurer import BlockMeasurer, _PreparedBlock
from runner.execution.worker.trial.procedure import choose_procedure
from runner.results.measurement import Measurement
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials
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
