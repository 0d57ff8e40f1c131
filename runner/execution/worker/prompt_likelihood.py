"""How unlikely a model finds the prompts of a task, asked of the engine before any window opens.

A trial context and a round of requests enter. The mean negative log-likelihoods stay in the trial context, for every
trial of the task.
"""

from collections.abc import Callable, Sequence

from runner.execution.worker.measure import InterruptedTrialError, Procedure, TrialContext
from runner.execution.worker.rounds import until_interrupted
from runner.hardware.gpu import ClockRequest
from runner.spec.load import SINGLE
from runner.spec.request import Request
from runner.tasks.features.tokens import make_likelihood_request, prompt_likelihood_nats


def note_likelihoods(
    context: TrialContext,
    task: str,
    requests: Sequence[Request],
    procedure: Procedure,
    *,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Ask for the surprise at each prompt of a task, once for each engine, at the GPU's default clock.

    Prompts are asked one at a time: in a batch, the last digits would depend on the company. Null (None) where the
    request failed, where a prompt has one token, and where the engine knows no log-likelihoods.

    Args:
        task: its name in tables.
        requests: one round of the task; prompts that several of them share (choices of a question) are asked once.
    Raises: GpuError, EngineError, InterruptedTrialError.
    """
    if task in context.prompt_likelihood_nats:
        return
    context.lease.apply(ClockRequest())
    asked = {request.request_id: make_likelihood_request(request) for request in requests}
    distinct = {request.prompt_token_ids: request for request in asked.values() if request is not None}
    run = context.engine.run(
        until_interrupted(is_interrupted, iter(distinct.values())),
        SINGLE,
        procedure.sampling,
        deadline_s=procedure.deadline_s,
    )
    if is_interrupted():
        raise InterruptedTrialError
    found = {completion.request_id: prompt_likelihood_nats(completion) for completion in run.completions}
    context.prompt_likelihood_nats[task] = {
        request_id: None if request is None else found.get(distinct[request.prompt_token_ids].request_id)
        for request_id, request in asked.items()
    }
