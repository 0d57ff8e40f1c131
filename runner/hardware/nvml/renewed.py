"""A reading that NVML has renewed: the newest call that answers is found once for a GPU, and kept.

CUDA 13 deprecates some calls and CUDA 14 removes them. Older drivers know no others.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from runner.hardware.gpu import GpuError, GpuLostError, NotSupportedError

T = TypeVar("T")


class RenewedReading(Generic[T]):
    """One reading of one GPU.

    Args:
        calls: ways to read it, newest first. Each returns the reading or raises `GpuError`.
    """

    def __init__(self, *calls: Callable[[], T]) -> None:
        self._calls = calls
        """Those that may still answer: one alone, once the choice is made."""

    def read(self) -> T | None:
        """Return the reading by the newest call that answers; None where none does.

        The first call that answers is kept. Its later failures are None, and no other call takes its place: two
        counters of the same kind need not agree.

        Raises: GpuLostError: the GPU no longer answers at all.
        """
        is_unsupported = True
        for call in self._calls:
            try:
                reading = call()
            except GpuLostError:
                raise
            except GpuError as error:
                is_unsupported &= isinstance(error, NotSupportedError)
            else:
                self._calls = (call,)
                return reading
        if is_unsupported:
            self._calls = self._calls[-1:]
        return None
