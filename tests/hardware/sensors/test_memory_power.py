"""Readings of what a GPU's memory draws."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.hardware.gpu import GpuError, GpuLostError, NotSupportedError, PowerReading
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.sensors.memory_power import WAIT_LIMIT_S, MemoryPower
from runner.hardware.sensors.power_rows import PowerRows
from runner.hardware.simulated.module import SimulatedNvml
from runner.timebase import VirtualTime
from tests.hardware.nvml.double import Double


class Answers:
    """A GPU that answers with one thing after the other, then for ever with the last."""

    def __init__(self, *answers: PowerReading | Exception) -> None:
        self._answers: Iterator[PowerReading | Exception] = iter(answers)
        self._last: PowerReading | Exception | None = None
        self.num_calls = 0

    def read_memory_power(self) -> PowerReading:
        self.num_calls += 1
        self._last = next(self._answers, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        assert self._last is not None
        return self._last


def make(gpu: Any) -> tuple[MemoryPower, PowerRows, VirtualTime]:
    time_source, rows = VirtualTime(), PowerRows("GPU-0", None)
    return MemoryPower(gpu, time_source, rows), rows, time_source


def test_each_reading_is_added_once() -> None:
    first, second = PowerReading(time_ns=100, power_w=90.0), PowerReading(time_ns=200, power_w=90.0)
    memory, rows, _ = make(Answers(first, first, second))
    for _ in range(3):
        memory.read()
    assert rows.take().select("time_ns", "memory_power_w").rows() == [(100, 90.0), (200, 90.0)]
    assert memory.reason is None


def test_a_gpu_without_it_is_asked_once() -> None:
    gpu = Answers(NotSupportedError("no scope 2"))
    memory, rows, time_source = make(gpu)
    start_ns = time_source.now_ns()
    memory.read()
    memory.read()
    memory.wait_past(start_ns + 10**9)
    assert gpu.num_calls == 1
    assert time_source.now_ns() == start_ns
    assert memory.reason == "the GPU does not tell its memory from the rest (no scope 2)"
    assert rows.take().is_empty()


def test_a_failure_is_counted_and_tried_again() -> None:
    memory, rows, _ = make(Answers(GpuError("busy"), PowerReading(time_ns=100, power_w=90.0)))
    memory.read()
    assert (memory.reason, memory.num_failed_reads) == ("busy", 1)
    memory.read()
    assert (memory.reason, rows.take().height) == (None, 1)


def test_a_lost_gpu_is_raised() -> None:
    memory, _, _ = make(Answers(GpuLostError("gone")))
    with pytest.raises(GpuLostError):
        memory.read()


def test_waiting_ends_with_a_later_stamp_or_at_its_limit() -> None:
    early, late = PowerReading(time_ns=100, power_w=90.0), PowerReading(time_ns=300, power_w=91.0)
    memory, rows, time_source = make(Answers(early, early, late))
    memory.wait_past(200)
    assert rows.take()["time_ns"].to_list() == [100, 300]
    start_ns = time_source.now_ns()
    memory.wait_past(400)
    assert (time_source.now_ns() - start_ns) * 1e-9 == pytest.approx(WAIT_LIMIT_S, abs=0.02)


def test_nvml_is_asked_for_the_average_at_the_memorys_scope(tmp_path: Path) -> None:
    asked: list[Any] = []
    nvml = SimulatedNvml("sim", time_source := VirtualTime(), tmp_path)

    def note(handle: Any, field_ids: list[Any]) -> Any:
        asked.extend(field_ids)
        return nvml.nvmlDeviceGetFieldValues(handle, field_ids)

    gpu = NvmlGpu(Double(nvml, nvmlDeviceGetFieldValues=note), 0, read_only=True)
    time_source.sleep(2.0)
    assert gpu.read_memory_power().power_w == pytest.approx(55.0)
    assert asked == [(185, 2)]


@pytest.mark.parametrize("code", ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_INVALID_ARGUMENT"])
def test_a_driver_without_scopes_does_not_support_it(tmp_path: Path, code: str) -> None:
    nvml = SimulatedNvml("sim:h200+a100", VirtualTime(), tmp_path)

    def answer(handle: Any, field_ids: list[Any]) -> Any:
        values = nvml.nvmlDeviceGetFieldValues(handle, field_ids)
        return [type(value)(value.fieldId, value.timestamp, getattr(nvml, code), 1, value.value) for value in values]

    gpu = NvmlGpu(Double(nvml, nvmlDeviceGetFieldValues=answer), 0, read_only=True)
    with pytest.raises(NotSupportedError):
        gpu.read_memory_power()
