"""vLLM's scheduler, which waits while requests are handed in together.

The front end and the core run side by side. Of several requests handed in together, some would join one step and the
rest the next, as the host's threads happen to run. On a real GPU that is part of the measurement. On a simulated GPU it
is the host's noise: up to 2 % of the time of 64 answers of 32 tokens. So the core waits from `HOLD` until `RELEASE`, in
host time that the GPU's schedule does not count.
"""

from collections.abc import Iterable
from typing import Any

from runner.inference.vllm.core_compat import scheduler_class, set_paused
from runner.inference.vllm.paced.pace import HOLD, RELEASE


class PacedScheduler(scheduler_class()):  # type: ignore[misc]
    """Schedules nothing between two marks, which arrive as the ids of requests to abort.

    An abort is the one message that needs no answer, keeps its place among the requests handed in, and does nothing for
    an unknown id. To wait for an answer would be to wait for ever if the engine died.
    """

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: Any) -> Any:
        """End requests, and obey the marks among their ids."""
        if request_ids is not None and not isinstance(request_ids, str):
            request_ids = list(request_ids)
            for request_id in request_ids:
                if request_id == HOLD:
                    set_paused(self, is_paused=True)
                elif request_id == RELEASE:
                    set_paused(self, is_paused=False)
        return super().finish_requests(request_ids, finished_status)
