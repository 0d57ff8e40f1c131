"""The vLLM engines that tests share: each is opened once, for the first test that asks for it.

An engine takes half a minute to open on two cores. Each process of pytest-xdist opens those that its modules share.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.inference.vllm.engine import VllmEngine

ON_ENGINE = [pytest.mark.vllm]
"""Marks of a test that starts a vLLM engine, or shares one."""
ON_PACED_ENGINE = [*ON_ENGINE, pytest.mark.paced]
"""Marks of a test whose engine must keep the pace of a simulated GPU, so that it wants the machine for itself."""


def on_engine(test: Callable[..., None]) -> Callable[..., None]:
    """Mark one test with `ON_ENGINE`, in a module whose other tests need no engine."""
    for mark in ON_ENGINE:
        test = mark(test)
    return test


SMALL_MODEL = str(Path(__file__).parents[1] / "models" / "joulesweep-small")
SMALL_ARGS = {"max_model_len": 512, "dtype": "float32", "enforce_eager": True, "enable_prefix_caching": False}
"""Engine arguments of the shared engine of `SMALL_MODEL`."""


class SharedEngines:
    """Opens the engine of the small model when it is first asked for, and closes it at the end of the session."""

    def __init__(self) -> None:
        self._small: VllmEngine | None = None

    def small(self) -> VllmEngine:
        """Return the engine of the small model, for a test that leaves it as it is."""
        if self._small is None:
            with small_environment():
                self._small = VllmEngine(SMALL_MODEL, engine_args=SMALL_ARGS)
        return self._small

    def take_small(self) -> VllmEngine:
        """Return that engine to a test that ends it. Another test would open another one."""
        engine = self.small()
        self._small = None
        return engine

    def close(self) -> None:
        """Close what is open."""
        if self._small is not None:
            self._small.close()


@contextmanager
def small_environment() -> Iterator[pytest.MonkeyPatch]:
    """Set the environment in which an engine of a tiny model opens soonest on few cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TORCH_COMPILE_DISABLE", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield patch
