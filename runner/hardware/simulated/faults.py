"""FaultyNvml stands where `SimulatedNvml` stands, and makes chosen calls fail or lie, from when to when one says.

What befalls the silicon itself (heat, ignored locks, a foreign process) is not here but in `physics/gpu_state.py`:
there the GPU truly does it, and its readings say so. Here the GPU is sound and its driver is not.
"""

import ctypes
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

from runner.hardware.simulated.constants import SimulatedNvmlError
from runner.hardware.simulated.module import SimulatedNvml

Effect = Callable[[Callable[[], Any]], Any]
"""Takes the true call and answers in its place: by raising, by another answer, or by its own."""

EVERY_CALL = ("nvmlDevice*",)
"""What fails when a GPU has fallen off the bus."""
EVERY_SETTING = ("nvmlDeviceSet*", "nvmlDeviceReset*")
"""What is refused without permission."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What some functions of NVML do, while the clock and the number of the call say so."""

    functions: tuple[str, ...]
    """Names, or patterns such as "nvmlDeviceSet*"."""
    effect: Effect
    start_ns: int = 0
    end_ns: float = float("inf")
    calls: range | None = None
    """Which calls of the function, counted from 0; None for all."""

    def strikes(self, function: str, time_ns: int, num_calls_before: int) -> bool:
        """Return whether a call is one of those that go wrong."""
        return (
            self.start_ns <= time_ns < self.end_ns
            and (self.calls is None or num_calls_before in self.calls)
            and any(fnmatchcase(function, pattern) for pattern in self.functions)
        )


class FaultyNvml:
    """A `SimulatedNvml` some of whose functions fail or lie; everything else is the true one's.

    `faults` may be changed at any time, and the first that strikes has the call. `num_calls` counts the calls of each
    function, those that went wrong included.
    """

    def __init__(self, nvml: SimulatedNvml, faults: Sequence[Fault] = ()) -> None:
        self.faults = list(faults)
        self.num_calls: Counter[str] = Counter()
        self.true_nvml = nvml

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.true_nvml, name)
        if not name.startswith("nvml"):
            return value

        def call(*args: Any) -> Any:
            num_before = self.num_calls[name]
            self.num_calls[name] += 1
            now_ns = self.true_nvml.time_source.now_ns()
            for fault in self.faults:
                if fault.strikes(name, now_ns, num_before):
                    return fault.effect(lambda: value(*args))
            return value(*args)

        return call


# effects -------------------------------------------------------------------------------------------------------------


def fail(code: int) -> Effect:
    """Raise an error of NVML."""

    def effect(_: Callable[[], Any]) -> Any:
        raise SimulatedNvmlError(code)

    return effect


def stick() -> Effect:
    """Answer what the first call answered, for ever: a counter that stands still."""
    answers: list[Any] = []

    def effect(call: Callable[[], Any]) -> Any:
        if not answers:
            answers.append(call())
        return answers[0]

    return effect


def step_back(millijoules: int) -> Effect:
    """Answer so much less than is true: a counter that a restarted driver set back."""
    return lambda call: max(call() - millijoules, 0)


def hold_back(nvml: SimulatedNvml, delay_ns: int) -> Effect:
    """Show a power sample only when it is so old: a buffer that is filled late."""
    return _filter_samples(nvml, lambda stamp_ns: stamp_ns <= nvml.time_source.now_ns() - delay_ns)


def lose(nvml: SimulatedNvml, start_ns: int, end_ns: int) -> Effect:
    """Show no power sample that was taken in an interval: a sensor that stopped for a while."""
    return _filter_samples(nvml, lambda stamp_ns: not start_ns <= stamp_ns < end_ns)


def restamp(step_us: int) -> Effect:
    """Stamp each power sample anew whenever it is asked for, so much later than the last time."""
    num_calls = 0

    def effect(call: Callable[[], Any]) -> Any:
        nonlocal num_calls
        num_calls += 1
        value_type, samples = call()
        return value_type, [
            SimpleNamespace(timeStamp=sample.timeStamp + num_calls * step_us, sampleValue=sample.sampleValue)
            for sample in samples
        ]

    return effect


class _Value(ctypes.Union):
    """NVML's union of values, whose members share their bits."""

    _fields_ = (
        ("dVal", ctypes.c_double),
        ("uiVal", ctypes.c_uint),
        ("ulVal", ctypes.c_ulong),
        ("ullVal", ctypes.c_ulonglong),
        ("sllVal", ctypes.c_longlong),
        ("siVal", ctypes.c_int),
        ("usVal", ctypes.c_ushort),
    )


def mislabel(value_type: int, upper_bits: int = 0) -> Effect:
    """Say that power samples are of another type: their 32 true bits, with what happened to lie above them."""

    def effect(call: Callable[[], Any]) -> Any:
        _, samples = call()
        return value_type, [
            SimpleNamespace(
                timeStamp=sample.timeStamp, sampleValue=_Value(ullVal=upper_bits << 32 | sample.sampleValue.uiVal)
            )
            for sample in samples
        ]

    return effect


def _filter_samples(nvml: SimulatedNvml, is_shown: Callable[[int], bool]) -> Effect:
    def effect(call: Callable[[], Any]) -> Any:
        value_type, samples = call()
        shown = [sample for sample in samples if is_shown(sample.timeStamp * 1000)]
        if not shown:
            raise SimulatedNvmlError(nvml.NVML_ERROR_NOT_FOUND)
        return value_type, shown

    return effect
