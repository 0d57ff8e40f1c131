"""A stand-in for NVML some of whose functions do something else."""

from typing import Any

from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.module import SimulatedNvml


class Double:
    """A `SimulatedNvml` some of whose functions are replaced, or fail with an NVML error code."""

    def __init__(self, nvml: SimulatedNvml, **replaced: Any) -> None:
        self._nvml = nvml
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        if name not in self._replaced:
            return getattr(self._nvml, name)
        replacement = self._replaced[name]
        if not isinstance(replacement, int):
            return replacement

        def fail(*_args: Any) -> None:
            raise SimulatedNvmlError(replacement)

        return fail
