"""What each step of a vLLM engine held, as the engine core itself counts it.

vLLM's stat loggers would count a chunked prompt at its last chunk, count cached tokens as work and stamp the front
end's clock; so the outputs of the core are read where they arrive.
"""

from typing import Any

from runner.spec.request import Step


class IterationLog:
    """Reads along while a vLLM `LLMEngine` fetches its core's outputs; costs one append a step.

    The engine must run with log stats and `enable_logging_iteration_details`; a version without them leaves the log
    empty.
    """

    def __init__(self, llm_engine: Any) -> None:
        self.num_outputs = 0
        """Tokens that left the core since `clear`, as long as every output holds one (no speculative decoding)."""
        self._rows: list[tuple[float, Any]] = []
        fetch = llm_engine.engine_core.get_output

        def get_output() -> Any:
            outputs = fetch()
            self.num_outputs += len(outputs.outputs)
            stats = outputs.scheduler_stats
            if stats is not None:
                self._rows.append((outputs.timestamp, getattr(stats, "iteration_details", None)))
            return outputs

        llm_engine.engine_core.get_output = get_output

    def clear(self) -> None:
        """Forget what was read so far."""
        self.num_outputs = 0
        self._rows = []

    def steps(self, monotonic_offset_ns: int) -> list[Step]:
        """Return the steps since `clear`; the offset leads from the host's monotonic clock to the epoch."""
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
