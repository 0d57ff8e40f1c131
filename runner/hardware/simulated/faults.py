"""FaultyNvml stands in for `SimulatedNvml`, and lets chosen calls fail or lie at chosen times.

Here the GPU works and its driver is faulty. Faults of the GPU itself (heat, ignored locks, a foreign process) are
conditions in `physics/gpu_state.py`, where the GPU behaves so and its readings show it.
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
"""Takes the true call and answers in its place: it raises an error, or returns the true answer or another one."""

EVERY_CALL = ("nvmlDevice*", "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet")
"""The functions that fail when a GPU has fallen off the bus."""
EVERY_SETTING = ("nvmlDeviceSet*", "nvmlDeviceReset*")
"""The functions that a driver refuses without permission."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What some functions of NVML do, at some times and at some of their calls."""

    functions: tuple[str, ...]
    """Names, or patterns such as "nvmlDeviceSet*"."""
    effect: Effect
    start_ns: int = 0
    end_ns: float = float("inf")
    calls: range | None = None
    """The calls of the function, counted from 0; None means all."""

    def strikes(self, function: str, time_ns: int, num_calls_before: int) -> bool:
        """Return whether a call is one that goes wrong."""
        return (
            self.start_ns <= time_ns < self.end_ns
            and (self.calls is None or num_calls_before in self.calls)
            and any(fnmatchcase(function, pattern) for pattern in self.functions)
        )


class FaultyNvml:
    """A `SimulatedNvml` of which some functions fail or lie.

    `faults` may be changed at any time. The first fault that strikes answers the call. `num_calls` counts the calls of
    each function, with those that went wrong.
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
    """Return an effect that raises an error of NVML."""

    def effect(_: Callable[[], Any]) -> Any:
        raise SimulatedNvmlError(code)

    return effect


def stick() -> Effect:
    """Return an effect that repeats the first answer for ever: a counter that stands still."""
    answers: list[Any] = []

    def effect(call: Callable[[], Any]) -> Any:
        if not answers:
            answers.append(call())
        return answers[0]

    return effect


def step_back(millijoules: int) -> Effect:
    """Return an effect that answers less than is true: a counter that a restarted driver set back."""
    return lambda call: max(call() - millijoules, 0)


def hold_back(nvml: SimulatedNvml, delay_ns: int) -> Effect:
    """Return an effect that shows power samples only after a delay: a buffer that is filled late."""
    return _filter_samples(nvml, lambda stamp_ns: stamp_ns <= nvml.time_source.now_ns() - delay_ns)


def lose(nvml: SimulatedNvml, start_ns: int, end_ns: int) -> Effect:
    """Return an effect that hides the power samples of an interval: a sensor that stopped for a while."""
    return _filter_samples(nvml, lambda stamp_ns: not start_ns <= stamp_ns < end_ns)


def restamp(step_us: int) -> Effect:
    """Return an effect that stamps power samples later at every call."""
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
    """NVML's union of values. Its members share their bits."""

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
    """Return an effect that gives power samples another type: 32 true bits, and any bits above them."""

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
