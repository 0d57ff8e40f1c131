"""What the parts of a simulated GPU did: rates that hold from step to step, and their exact integrals.

The steps of a `GpuHistory` enter; sums over time leave. Next: `history.py`.
"""

from array import array
from dataclasses import dataclass

from runner.physics.gpu_model import StepParts


class StepRates:
    """The parts of each step of a history, by the step's place in it. The last step is open.

    Of each part it keeps the rate, and the integral up to the step's start, in the part's unit times seconds.
    """

    def __init__(self) -> None:
        self._rates = [array("d") for _ in range(4)]
        self._sums = [array("d") for _ in range(4)]

    def append(self, parts: StepParts, lasted_s: float) -> None:
        """Add a step.

        Args:
            lasted_s: how long the step before it lasted; 0 for the first one.
        """
        for rates, sums, rate in zip(self._rates, self._sums, _list_parts(parts), strict=True):
            sums.append(sums[-1] + rates[-1] * lasted_s if sums else 0.0)
            rates.append(rate)

    def truncate(self, num_steps: int) -> None:
        """Keep the first steps alone."""
        for column in (*self._rates, *self._sums):
            del column[num_steps:]

    def sum_until(self, step: int, elapsed_s: float) -> "PartSums":
        """Return the integrals from the first step's start to some seconds after the start of a step."""
        return PartSums(
            *(sums[step] + rates[step] * elapsed_s for rates, sums in zip(self._rates, self._sums, strict=True))
        )


@dataclass(frozen=True, slots=True)
class PartSums:
    """Integrals of the parts since the NVIDIA driver loaded."""

    memory_j: float
    tensor_s: float
    dram_s: float
    sm_s: float


def _list_parts(parts: StepParts) -> tuple[float, float, float, float]:
    return (
        parts.memory_power_w,
        parts.tensor_active_fraction,
        parts.dram_active_fraction,
        parts.sm_active_fraction,
    )
