"""Whose processes on a GPU are the server's, and what a second attempt cannot mend on a server."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.execution.worker.engine_slot import EngineSlot
from runner.execution.worker.engines import EngineSetup, find_server_processes, open_engine
from runner.hardware.gpu import Gpu, GpuError
from runner.inference.engine import EngineError
from runner.inference.server.address import parse_address
from runner.inference.server.engine import ServerEngine
from runner.inference.server.facts import AttachedServer, ServedModel, ServerFacts
from runner.spec.sweep import parse_sweep
from runner.timebase import WallTime
from tests.inference.server.fake_server import SMALL_MODEL, find_free_port


def make_server(*, gpus_named: bool = False, port: int = 8000) -> AttachedServer:
    facts = ServerFacts(
        address=parse_address(f"http://127.0.0.1:{port}"),
        owner="vllm",
        version="0.32.0",
        models=(ServedModel(id=SMALL_MODEL, root=None, max_model_len=512),),
        keeps_prefixes=None,
    )
    return AttachedServer(facts=facts, needs_scores=False, gpus_named=gpus_named)


class StubGpu:
    """A GPU with some processes on it; None: the driver does not list them."""

    def __init__(self, listed: list[int] | None, *, simulated: bool = False) -> None:
        self.info = SimpleNamespace(simulated=simulated)
        self._listed = listed

    def read_process_ids(self) -> list[int]:
        if self._listed is None:
            raise GpuError("not supported")
        return self._listed

    def read_memory_used_bytes(self) -> int | None:
        return None


OWN = frozenset({10, 11})


@pytest.mark.parametrize(
    ("listed", "gpus_named", "simulated", "found", "on_gpu"),
    [
        ([11, 99], False, False, {11}, True),
        ([99], False, False, set(), False),  # restarted on another GPU
        ([11, 99], True, False, {11}, True),
        ([99], True, False, {99}, True),  # in a container, ids differ
        ([], True, False, set(), False),
        (None, False, False, None, True),
        ([11], False, True, set(), False),
    ],
)
def test_the_server_s_processes(
    listed: list[int] | None, gpus_named: bool, simulated: bool, found: set[int] | None, on_gpu: bool
) -> None:
    engine = cast("ServerEngine", SimpleNamespace(process_ids=OWN))
    gpu = cast("Gpu", StubGpu(listed, simulated=simulated))
    assert find_server_processes(engine, make_server(gpus_named=gpus_named), gpu) == (found, on_gpu)


def test_a_server_that_does_not_come_back_fails_the_trial_and_not_the_worker() -> None:
    sweep = parse_sweep(
        {"name": "s", "limits": {"load_s": 0.1}, "model": [{"id": SMALL_MODEL}], "task": [{"name": "tiny_qa"}]}
    )
    setup = EngineSetup(name="server", time_source=WallTime(), server=make_server(port=find_free_port()))
    with pytest.raises(EngineError, match=r"no server answers .* it was not back within 0.1 s"):
        open_engine(sweep.model[0], sweep, setup)


def test_an_interrupt_ends_the_wait_for_a_server() -> None:
    sweep = parse_sweep({"name": "s", "model": [{"id": SMALL_MODEL}], "task": [{"name": "tiny_qa"}]})
    setup = EngineSetup(
        name="server",
        time_source=WallTime(),
        server=make_server(port=find_free_port()),
        is_interrupted=lambda: True,
    )
    assert sweep.limits.load_s > 1000
    with pytest.raises(EngineError, match="no server answers"):
        open_engine(sweep.model[0], sweep, setup)


def make_slot() -> EngineSlot:
    session: Any = SimpleNamespace(gpu=StubGpu([]))
    setup = EngineSetup(name="server", time_source=WallTime(), server=make_server())
    return EngineSlot(cast("Any", None), setup, session, cast("Any", None))


@pytest.mark.parametrize(("can_reset", "lasting"), [(True, set()), (False, {"prefix_cache_not_reset"})])
def test_a_cache_that_cannot_be_reset_is_no_reason_to_measure_again(can_reset: bool, lasting: set[str]) -> None:
    slot = make_slot()
    assert slot.lasting_verdicts == frozenset()
    engine = object.__new__(ServerEngine)
    engine._can_reset = can_reset
    slot._engine = engine
    assert slot.lasting_verdicts == lasting
    slot._engine = None  # its last trial has failed
    assert slot.lasting_verdicts == lasting
