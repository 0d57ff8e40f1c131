"""The engine that the rest of the program sees.

`VllmEngine` answers with real tokens. `SimulatedEngine` answers without tokens, with the GPU model in virtual time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from runner.inference.arrivals import Arrivals
from runner.physics.shape import ModelShape
from runner.spec.load import ClosedLoop
from runner.spec.request import Completion, Request, Step


class EngineError(Exception):
    """The engine could not be opened, or died."""


class EngineTimeoutError(EngineError):
    """The engine did not come up, or did not answer, within its time limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are drawn, the same for every request of a sweep."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineRun:
    """What one call of `Engine.run` did. Every request lies between `start_ns` and `end_ns` (since the epoch)."""

    start_ns: int
    end_ns: int
    completions: list[Completion]
    steps: list[Step]
    """Empty if the engine's version does not report steps."""
    pace_lost_s: float | None = None
    """Seconds by which real steps outlasted the simulated GPU's; None if nothing is paced."""


class Engine(Protocol):
    """One loaded model. Methods raise `EngineError` once the engine is dead."""

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        ...

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids as the model wants them (special tokens as its tokenizer adds them); None: no tokenizer."""
        ...

    @property
    def shape(self) -> ModelShape | None:
        """The shape that the GPU computes: the model's, or the modelled shape; None if it cannot be read."""
        ...

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
        """Hand in requests as the load says.

        A closed loop goes on until the iterator ends, and then drains. Arrivals go on until the requests of their
        window have ended; then what is in flight is withdrawn. An iterator that ends before ends the run.

        Args:
            requests: consumed one at a time, when the load lets one in; the iterator may ask its time source whether
                to end. Ids may repeat: the engine counts the rounds of each.
            load: says when the next request is handed in.
            sampling: how tokens are drawn.
            deadline_s: seconds after which requests in flight are aborted and come back with an error.
            on_progress: called at most four times a second with (requests finished, output tokens so far).
            on_edge: called when the window of arrivals opens and when it closes; never for a closed loop, nor by an
                engine that cannot tell.
        """
        ...

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes; False if the engine refused."""
        ...

    def close(self) -> None:
        """End the engine and wait until its processes are gone."""
        ...
