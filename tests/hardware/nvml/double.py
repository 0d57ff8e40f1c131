"""A stand-in for NVML with some functions replaced."""

from typing import Any

from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.module import SimulatedNvml


class Double:
    """A `SimulatedNvml` with some functions replaced, or failing with an error code where a number replaces them."""

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
