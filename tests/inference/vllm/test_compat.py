"""Checks that every supported release of vLLM has what `runner.inference` uses of it.

The installed release is checked by its sources, the others by a snapshot of theirs.
"""

import ast
import json
import queue
from collections.abc import Iterator
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.inference.engine import EngineError
from runner.inference.vllm import compat
from runner.inference.vllm.compat import FrontEnd, require_core_process
from tests.inference.vllm.stand_in import DeadError, StandInEngine
from tests.interfaces.collect import check_snapshot, make_snapshot
from tests.interfaces.sources import dotted, installed_root
from tests.interfaces.vllm_interfaces import VLLM, VLLM_TEXTS

ROOT = Path(__file__).parents[3]
INFERENCE = ROOT / "runner" / "inference"
COMPAT = tuple(INFERENCE / "vllm" / f"{name}.py" for name in ("compat", "core_compat"))
SNAPSHOTS = sorted((ROOT / "tests" / "interfaces").glob("vllm_*.json"))
MODULES = sorted(path for folder in ("vllm", "models") for path in (INFERENCE / folder).rglob("*.py"))
OWNERS = {
    "self._llm_engine": "LLMEngine",
    "llm_engine": "LLMEngine",
    "self._core": "SyncMPClient",
    "core": "SyncMPClient",
    "scheduler": "Scheduler",
    "current_platform": "Platform",
}
"""The class of vLLM behind an expression in compat.py and core_compat.py."""


def read_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def find_imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that a file imports from vLLM."""
    for node in ast.walk(read_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            yield from ((node.module or "", alias.name) for alias in node.names)


def listed_members(name: str) -> set[str]:
    """Return the attributes and methods of a class that are in the list."""
    members = set()
    for interface in VLLM:
        owner, _, method = interface.qualname.partition(".")
        if owner == name:
            members |= {*interface.attributes, *([method] if method else ())}
    return members


# The list against the releases --------------------------------------------------------------------------------------


def test_both_ends_of_the_supported_range_have_a_snapshot() -> None:
    releases = [json.loads(path.read_text())["release"] for path in SNAPSHOTS]
    assert [release.rsplit(".", 1)[0] for release in releases] == ["0.26", "0.32"]
    assert "vllm>=0.26,<0.33" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_release_that_is_not_installed_has_what_we_use(path: Path) -> None:
    assert check_snapshot(json.loads(path.read_text()), VLLM, VLLM_TEXTS) == []


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM")
def test_the_installed_release_has_what_we_use() -> None:
    snapshot = make_snapshot(installed_root("vllm"), VLLM, VLLM_TEXTS)
    assert check_snapshot(snapshot, VLLM, VLLM_TEXTS) == []
    known = [json.loads(path.read_text()) for path in SNAPSHOTS]
    assert all(other == snapshot for other in known if other["release"] == snapshot["release"])


def test_a_name_that_a_release_lacks_is_found() -> None:
    snapshot = json.loads(SNAPSHOTS[0].read_text())
    snapshot["interfaces"]["vllm.v1.engine.core_client:SyncMPClient"]["attributes"].remove("outputs_queue")
    assert check_snapshot(snapshot, VLLM, VLLM_TEXTS) == [
        "vllm.v1.engine.core_client:SyncMPClient: no attribute outputs_queue"
    ]


# The code against the list ------------------------------------------------------------------------------------------


def test_every_interface_is_listed_once() -> None:
    keys = [interface.key for interface in VLLM]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(INFERENCE)))
def test_what_is_imported_from_vllm_is_listed(path: Path) -> None:
    assert set(find_imports(path)) <= {(interface.module, interface.qualname) for interface in VLLM}


def test_only_compat_and_the_models_import_from_inside_vllm() -> None:
    others = [path for path in MODULES if path not in COMPAT and path.parent.name != "models"]
    modules = {module for path in others for module, _ in find_imports(path)}
    assert modules <= {"vllm"}


def protocols() -> list[ast.ClassDef]:
    classes = [node for path in COMPAT for node in read_tree(path).body if isinstance(node, ast.ClassDef)]
    return [node for node in classes if any(dotted(base) == "Protocol" for base in node.bases)]


@pytest.mark.parametrize("protocol", protocols(), ids=lambda protocol: protocol.name)
def test_the_members_of_a_protocol_are_listed(protocol: ast.ClassDef) -> None:
    fields = {node.target.id for node in protocol.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    methods = {node.name for node in protocol.body if isinstance(node, ast.FunctionDef)}
    assert fields | methods
    assert fields | methods <= listed_members(protocol.name)


def test_what_compat_asks_of_vllms_objects_is_listed() -> None:
    imported = {name: name for path in COMPAT for _, name in find_imports(path)}
    asked: dict[str, set[str]] = {}
    for node in (node for path in COMPAT for node in ast.walk(read_tree(path))):
        owner = (imported | OWNERS).get(dotted(node.value)) if isinstance(node, ast.Attribute) else None
        if owner is not None and isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            asked.setdefault(owner, set()).add(node.attr)
    assert {"LLMEngine", "SyncMPClient", "Scheduler", "Platform", "PauseState", "RequestOutputKind"} <= set(asked)
    for owner, names in asked.items():
        assert names <= listed_members(owner), owner


@pytest.mark.parametrize(("module", "base"), [("worker", "CPUWorker"), ("scheduler", "Scheduler")])
def test_what_a_paced_class_hands_on_to_its_base_is_listed(module: str, base: str) -> None:
    tree = read_tree(INFERENCE / "vllm" / "paced" / f"{module}.py")
    handed_on = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()"
    }
    assert handed_on
    assert handed_on - {"__init__"} <= listed_members(base)


def test_the_sampling_parameters_that_we_give_are_listed() -> None:
    (listed,) = (interface.parameters for interface in VLLM if interface.key == "vllm:SamplingParams")
    calls = [node for node in ast.walk(read_tree(INFERENCE / "vllm" / "conversion.py")) if isinstance(node, ast.Call)]
    given = {keyword.arg for call in calls if dotted(call.func) == "SamplingParams" for keyword in call.keywords}
    assert given
    assert given <= set(listed)


# What compat does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", " 0", "00"])
def test_a_core_in_this_process_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", value)
    with pytest.raises(EngineError, match="VLLM_ENABLE_V1_MULTIPROCESSING is 0"):
        require_core_process()


@pytest.mark.parametrize("value", ["1", None, "yes"])
def test_any_other_value_is_left_to_vllm(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    else:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", value)
    require_core_process()


def test_an_engine_whose_core_came_up_in_this_process_is_refused() -> None:
    opened = SimpleNamespace(engine_core=SimpleNamespace(), logger_manager=None)
    with pytest.raises(EngineError, match="leave distributed_executor_backend out"):
        FrontEnd(opened)


def test_vllm_logs_no_step() -> None:
    stand_in = StandInEngine()
    FrontEnd(stand_in)
    assert stand_in.logger_manager is None


def test_a_dead_core_wakes_the_waiting_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "engine_dead_error", lambda: DeadError)
    stand_in, answered, asked = StandInEngine(), Future[object](), Future[object]()
    answered.set_result("an answer")
    stand_in.engine_core.utility_results |= {1: answered, 2: asked}
    FrontEnd(stand_in).raise_dead()
    assert isinstance(stand_in.engine_core.outputs_queue.get_nowait(), DeadError)
    assert isinstance(asked.exception(timeout=0), DeadError)
    assert answered.result(timeout=0) == "an answer"


def test_outputs_are_seen_and_go_on_to_vllm() -> None:
    stand_in, seen = StandInEngine(), list[object]()
    FrontEnd(stand_in).watch_outputs(seen.append)
    stand_in.engine_core.outputs_queue.put("an answer")
    assert stand_in.engine_core.get_output() == "an answer"
    assert seen == ["an answer"]
    with pytest.raises(queue.Empty):
        stand_in.engine_core.get_output()


def test_a_mark_travels_as_the_id_of_a_request_to_abort() -> None:
    stand_in = StandInEngine()
    FrontEnd(stand_in).send_mark("sweep:hold")
    assert stand_in.engine_core.aborted == [["sweep:hold"]]
