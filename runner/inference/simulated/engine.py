"""An engine in virtual time: vLLM's scheduling over the GPU model, for plans, scale tests and fault tests.

Requests enter; their times and the GPU's activity leave. There are no tokens and no texts, so quality is None. A trial
of minutes runs in milliseconds, by the same step times and powers that pace the real engine on the simulated GPU.
"""

import re
import zlib
from collections.abc import Callable, Iterator

from runner.inference.arrivals import Arrivals
from runner.inference.engine import EngineError, EngineRun, Sampling
from runner.inference.simulated.runs import ArrivalRun, ClosedRun
from runner.physics.gpu_model import GpuModel
from runner.physics.gpu_state import GpuState
from runner.physics.shape import ModelShape
from runner.spec.load import ClosedLoop
from runner.spec.request import Request
from runner.timebase import VirtualTime

_PIECE = re.compile(r"\s*\S{1,6}")


class SimulatedEngine:
    """One loaded model on one simulated GPU; implements `Engine`.

    Every request runs to its `max_output_tokens`: without tokens there is no end of text and no stop string. The engine
    keeps no account of KV memory, so it never preempts a request.

    Args:
        shape: the model's shape, or the modelled shape in its place.
        gpu_model: says how long each step lasts and what it draws.
        state: holds the operating point and takes the GPU's activity.
        time_source: is advanced over every step.
        max_num_seqs: most requests in one step, as in vLLM.
        max_num_batched_tokens: most tokens in one step, as in vLLM.
        max_model_len: longest prompt and output together, in tokens.
        vocab_size: None takes the shape's.

    Raises: EngineError: the weights do not fit the GPU's memory.
    """

    def __init__(
        self,
        *,
        shape: ModelShape,
        gpu_model: GpuModel,
        state: GpuState,
        time_source: VirtualTime,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        max_model_len: int = 4096,
        vocab_size: int | None = None,
    ) -> None:
        if shape.weight_bytes > gpu_model.memory_total_bytes:
            raise EngineError(
                f"{shape.name} takes {shape.weight_bytes / 2**30:.0f} GiB and {gpu_model.name} has "
                f"{gpu_model.memory_total_bytes / 2**30:.0f} GiB: choose a smaller shape"
            )
        self.shape = shape
        self.gpu_model = gpu_model
        self.state = state
        self.time_source = time_source
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self._max_model_len = max_model_len
        self._vocab_size = vocab_size or shape.vocab_size
        self._closed = False

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        return self._max_model_len

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model would know."""
        return self._vocab_size

    @property
    def encode(self) -> Callable[[str], list[int]]:
        """Text to invented token ids, a hash for each piece of up to six letters: about as many as in English."""
        return lambda text: [zlib.crc32(piece.encode()) % self._vocab_size for piece in _PIECE.findall(text)]

    def run(
        self,
        requests: Iterator[Request],
        load: ClosedLoop | Arrivals,
        sampling: Sampling,
        *,
        deadline_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_edge: Callable[[], None] | None = None,
    ) -> EngineRun:
        """Hand in requests as the load says; see `Engine.run`. `sampling` changes nothing."""
        if self._closed:
            raise EngineError("the engine is closed; open another")
        if isinstance(load, Arrivals):
            return ArrivalRun(self, requests, load, deadline_s, on_progress, on_edge=on_edge).run()
        return ClosedRun(self, requests, load, deadline_s, on_progress).run()

    def reset_prefix_cache(self) -> bool:
        """Nothing is cached, so there is nothing to forget."""
        if self._closed:
            raise EngineError("the engine is closed; open another")
        return True

    def close(self) -> None:
        """End the engine."""
        self._closed = True
