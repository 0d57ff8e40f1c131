"""A reading by the newest call that answers."""

from collections.abc import Callable

import pytest

from runner.hardware.gpu import GpuError, GpuLostError, NotSupportedError
from runner.hardware.nvml.renewed import RenewedReading


class Call:
    """Gives its answers in turn, and repeats the last one. An error is raised."""

    def __init__(self, *answers: int | GpuError) -> None:
        self.answers = list(answers)
        self.num_calls = 0

    def __call__(self) -> int:
        answer = self.answers[min(self.num_calls, len(self.answers) - 1)]
        self.num_calls += 1
        if isinstance(answer, GpuError):
            raise answer
        return answer


def read(times: int, *calls: Callable[[], int]) -> list[int | None]:
    reading = RenewedReading(*calls)
    return [reading.read() for _ in range(times)]


def test_the_newest_call_that_answers_is_the_only_one_from_then_on() -> None:
    new, old = Call(1), Call(2)
    assert read(3, new, old) == [1, 1, 1]
    assert old.num_calls == 0
    new = Call(NotSupportedError("no such function"))
    assert read(3, new, old) == [2, 2, 2]
    assert (new.num_calls, old.num_calls) == (1, 3)


def test_a_call_that_was_chosen_and_fails_has_no_substitute() -> None:
    new, old = Call(1, GpuError("timeout"), NotSupportedError("gone"), 4), Call(2)
    assert read(4, new, old) == [1, None, None, 4]
    assert old.num_calls == 0


def test_where_none_is_supported_one_call_a_reading_is_made() -> None:
    new, old = Call(NotSupportedError("new")), Call(NotSupportedError("old"))
    assert read(4, new, old) == [None] * 4
    assert (new.num_calls, old.num_calls) == (1, 4)


def test_a_failure_that_may_pass_decides_nothing() -> None:
    new, old = Call(GpuError("timeout"), 1), Call(NotSupportedError("old"))
    assert read(3, new, old) == [None, 1, 1]
    assert old.num_calls == 1


def test_a_lost_gpu_is_an_error() -> None:
    old = Call(2)
    with pytest.raises(GpuLostError):
        read(1, Call(GpuLostError("off the bus")), old)
    assert old.num_calls == 0
