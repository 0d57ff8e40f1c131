"""What an engine slot finds on its GPU around a load: the engine's processes, and memory left behind."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runner.execution.worker import engine_slot
from runner.execution.worker.engine_slot import EngineSlot
from runner.execution.worker.engines import EngineSetup
from runner.hardware.gpu import NotSupportedError
from runner.inference.engine import EngineError
from runner.spec.model import ModelSpec
from runner.timebase import VirtualTime

GIB = 2**30
FIRST, SECOND = ModelSpec(id="first"), ModelSpec(id="second")


class FakeGpu:
    """A GPU with a foreign process, 1, and the engines that are loaded on it."""

    def __init__(self) -> None:
        self.process_ids: set[int] | None = {1}
        self.used_bytes: int | None = 2 * GIB
        self.leaves_bytes = 0
        self.loads = 0

    def read_process_ids(self) -> list[int]:
        if self.process_ids is None:
            raise NotSupportedError("nvmlDeviceGetComputeRunningProcesses: not supported")
        return sorted(self.process_ids)

    def read_memory_used_bytes(self) -> int | None:
        return self.used_bytes

    def open_engine(self, *_: object) -> "Engine":
        self.loads += 1
        if self.process_ids is not None:
            self.process_ids.add(100 * self.loads)
        if self.used_bytes is not None:
            self.used_bytes += 40 * GIB
        return Engine(self, 100 * self.loads)


class Engine:
    def __init__(self, gpu: FakeGpu, pid: int) -> None:
        self._gpu = gpu
        self._pid = pid

    def close(self) -> None:
        if self._gpu.process_ids is not None:
            self._gpu.process_ids.discard(self._pid)
        if self._gpu.used_bytes is not None:
            self._gpu.used_bytes += self._gpu.leaves_bytes - 40 * GIB


class Told:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def update(self, **_: object) -> None:
        pass

    def say(self, level: str, kind: str, message: str) -> None:
        self.kinds.append(kind)


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def open_slot(gpu: FakeGpu, told: Told, monkeypatch: pytest.MonkeyPatch) -> Callable[[], EngineSlot]:
    monkeypatch.setattr(engine_slot, "open_engine", gpu.open_engine)
    monkeypatch.setattr(engine_slot, "MEMORY_LIMIT_S", 0.0)

    def make() -> EngineSlot:
        reporter: Any = told
        held: Any = SimpleNamespace(gpu=gpu, placement=None, lease=None, sampler=None, host=None)
        sweep: Any = None
        return EngineSlot(sweep, EngineSetup(name="vllm", time_source=VirtualTime()), held, reporter)

    return make


def test_the_processes_that_come_with_an_engine_are_ours(gpu: FakeGpu, open_slot: Callable[[], EngineSlot]) -> None:
    slot = open_slot()
    assert slot.open(FIRST).engine_process_ids == {100}
    ours = slot.open(SECOND).engine_process_ids
    assert ours is not None
    assert 200 in ours
    assert 1 not in ours


def test_of_a_process_that_outlives_its_engine_it_is_known_that_it_was_ours(
    gpu: FakeGpu, open_slot: Callable[[], EngineSlot], monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = open_slot()
    slot.open(FIRST)
    monkeypatch.setattr(Engine, "close", lambda _: None)
    assert slot.open(SECOND).engine_process_ids == {100, 200}


def test_where_the_driver_lists_no_processes_nobody_is_known(gpu: FakeGpu, open_slot: Callable[[], EngineSlot]) -> None:
    gpu.process_ids = None
    assert open_slot().open(FIRST).engine_process_ids is None


@pytest.mark.parametrize(
    ("left_bytes", "is_held"), [(0, False), (GIB // 4, False), (GIB, True)], ids=["nothing", "a little", "much"]
)
def test_memory_that_an_engine_left_behind_marks_the_next_one(
    left_bytes: int, is_held: bool, gpu: FakeGpu, open_slot: Callable[[], EngineSlot]
) -> None:
    slot = open_slot()
    assert not slot.open(FIRST).memory_left_behind  # its own memory is no debt
    gpu.leaves_bytes = left_bytes
    assert slot.open(SECOND).memory_left_behind == is_held


def test_memory_that_was_freed_before_the_next_load_is_forgotten(
    gpu: FakeGpu, told: Told, open_slot: Callable[[], EngineSlot]
) -> None:
    slot = open_slot()
    slot.open(FIRST)
    gpu.leaves_bytes = GIB
    slot.close()
    assert told.kinds[-1] == "memory_left_behind"
    gpu.used_bytes = 2 * GIB
    assert not slot.open(SECOND).memory_left_behind


def test_a_model_that_did_not_load_is_not_tried_twice(
    gpu: FakeGpu, open_slot: Callable[[], EngineSlot], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Engine:
        gpu.loads += 1
        raise EngineError("out of memory")

    monkeypatch.setattr(engine_slot, "open_engine", refuse)
    slot = open_slot()
    for _ in range(2):
        with pytest.raises(EngineError, match="out of memory"):
            slot.open(FIRST)
    assert gpu.loads == 1
