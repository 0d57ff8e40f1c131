"""The likelihood of a task's prompts, measured by the engine before any window opens.

A trial context and a round of requests enter. The mean negative log-likelihoods stay in the trial context, for every
trial of the task.
"""

from collections.abc import Callable, Sequence

from runner.execution.worker.trial.measure import InterruptedTrialError, TrialContext
from runner.execution.worker.trial.procedure import Procedure
from runner.execution.worker.trial.rounds import until_interrupted
from runner.spec.load import SINGLE
from runner.spec.operating_point import OperatingPoint
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
    """Measure the likelihood of each prompt of a task, once for each engine, at the default clock.

    Prompts run one at a time: in a batch, the last digits would depend on the other prompts. A likelihood is None where
    the request failed, where a prompt has one token, and where the engine computes no log-likelihoods.

    Args:
        task: the task's name in tables.
        requests: one round of the task. A prompt that several requests share (choices of a question) runs once.
    Raises: GpuError, EngineError, InterruptedTrialError.
    """
    if task in context.prompt_likelihood_nats:
        return
    context.lease.apply(OperatingPoint())
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
