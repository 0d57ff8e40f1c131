"""vLLM's scheduler, told when the front end is about to hand in requests.

The front end and the core run side by side: of several requests handed in together, some would join one step and the
rest the next, as the host's threads happen to run. On a real GPU that is part of the measurement. On a simulated
one it would be the host's noise: up to 2 % of the time of 32-token answers, 64 at once. So the core waits from `HOLD`
until `RELEASE`, in host time that the GPU's schedule does not see.
"""

from collections.abc import Iterable
from typing import Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.scheduler import Scheduler

from runner.inference.paced.pace import HOLD, RELEASE


class PacedScheduler(Scheduler):  # type: ignore[misc]
    """Schedules nothing between the two marks, which come as if they were ids of requests to abort.

    An abort is the one message that needs no answer, keeps its place among the requests handed in and does nothing
    for an id that is unknown: waiting for an answer could wait for ever if the engine died.
    """

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: Any) -> Any:
        """End requests; obey the marks among their ids."""
        if request_ids is not None and not isinstance(request_ids, str):
            request_ids = list(request_ids)
            for request_id in request_ids:
                if request_id == HOLD:
                    self.set_pause_state(PauseState.PAUSED_ALL)
                elif request_id == RELEASE:
                    self.set_pause_state(PauseState.UNPAUSED)
        return super().finish_requests(request_ids, finished_status)
