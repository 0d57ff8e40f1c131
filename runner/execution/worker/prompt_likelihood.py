"""How unlikely a model finds the prompts of a task, asked of the engine before any window opens.

A bench and a round of requests enter; mean negative log-likelihoods stay on the bench, for every trial of the task.
"""

from collections.abc import Callable, Sequence

from runner.execution.worker.measure import Bench, CancelledError, Procedure
from runner.execution.worker.rounds import until_cancelled
from runner.hardware.gpu import ClockRequest
from runner.spec.request import Request
from runner.tasks.features.tokens import make_surprise_request, surprise_nats


def note_surprise(
    bench: Bench,
    task: str,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Ask for the surprise at each prompt of a task, once for each engine, at the board's default clock.

    Prompts are asked one at a time: in a batch, the last digits would depend on the company. Null (None) where the
    request failed, where a prompt has one token, and where the engine knows no log-likelihoods.

    Args:
        task: its name in tables.
        requests: one round of the task; prompts that several of them share (choices of a question) are asked once.
    Raises: GpuError, EngineError, CancelledError.
    """
    if task in bench.surprise_nats:
        return
    bench.lease.apply(ClockRequest())
    asked = {request.request_id: make_surprise_request(request) for request in requests}
    distinct = {request.prompt_token_ids: request for request in asked.values() if request is not None}
    run = bench.engine.run(
        until_cancelled(is_cancelled, iter(distinct.values())), 1, procedure.sampling, deadline_s=procedure.deadline_s
    )
    if is_cancelled():
        raise CancelledError
    found = {completion.request_id.rpartition("#")[0]: surprise_nats(completion) for completion in run.completions}
    bench.surprise_nats[task] = {
        request_id: None if request is None else found.get(distinct[request.prompt_token_ids].request_id)
        for request_id, request in asked.items()
    }
