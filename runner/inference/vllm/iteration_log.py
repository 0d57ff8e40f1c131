"""What each step of a vLLM engine held, as the engine's core counts it.

The outputs of the core are read where they arrive. vLLM's stat loggers would count a chunked prompt at its last chunk,
count cached tokens as work, and stamp the time at which the front end came to it.
"""

from runner.inference.vllm.compat import EngineCoreOutputs, FrontEnd, SchedulerIterationDetails
from runner.spec.request import Step


class IterationLog:
    """Keeps the steps of an engine. It costs one append a step.

    The engine must run with log stats and `enable_logging_iteration_details`. A version of vLLM without them leaves
    the log empty.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.num_outputs = 0
        """Tokens that left the core since `clear`, as long as every output holds one (no speculative decoding)."""
        self._rows: list[tuple[float, SchedulerIterationDetails | None]] = []
        front_end.watch_outputs(self._read)

    def clear(self) -> None:
        """Forget the steps so far."""
        self.num_outputs = 0
        self._rows = []

    def steps(self, monotonic_offset_ns: int) -> list[Step]:
        """Return the steps since `clear`.

        Args:
            monotonic_offset_ns: leads from the host's monotonic clock to the epoch.
        """
        return [
            Step(
                time_ns=round(timestamp_s * 1e9) + monotonic_offset_ns,
                num_prefill_tokens=details.num_ctx_tokens,
                num_decode_tokens=details.num_generation_tokens,
                num_running=details.num_ctx_requests + details.num_generation_requests,
            )
            for timestamp_s, details in self._rows
            if details is not None and not details.is_dummy
        ]

    def _read(self, outputs: EngineCoreOutputs) -> None:
        self.num_outputs += len(outputs.outputs)
        stats = outputs.scheduler_stats
        if stats is not None:
            self._rows.append((outputs.timestamp, getattr(stats, "iteration_details", None)))
