"""Attaching to a server: every bad case has its one message, before a run directory is touched."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.execution.preflight import server as preflight
from runner.execution.preflight import server_gpus
from runner.execution.preflight.server import attach
from runner.execution.preflight.server_gpus import find_server_group
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuError, NoGpuError
from runner.hardware.nvml.gpu import NvmlGpu
from runner.hardware.selection import select_gpus
from runner.inference.server.address import parse_address
from runner.physics.gpu_state import GpuConditions, GpuState
from runner.spec.sweep import SweepFileError, SweepSpec, parse_sweep
from runner.timebase import VirtualTime
from tests.inference.server.fake_server import SMALL_MODEL, ServerProcess, fake_server, find_free_port

GENERATES = {"name": "tiny_qa", "limit": 2}
SCORES = {"name": "tiny_commonsense", "limit": 2}
FIXED = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 4, "num_requests": 2}


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    for name in ("OPENAI_API_KEY", "RAY_ADDRESS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server in order."""
    with fake_server() as started:
        yield started


def make_sweep(*tasks: dict[str, Any], **model: Any) -> SweepSpec:
    return parse_sweep({"name": "s", "model": [{"id": SMALL_MODEL} | model], "task": list(tasks) or [GENERATES]})


def test_a_server_in_order_is_attached(server: ServerProcess) -> None:
    found = attach(make_sweep(GENERATES, SCORES, FIXED), server.url, gpu="sim", server_gpus=None)
    assert found.server.facts.software == "vllm 0.32.0"
    assert (found.server.needs_scores, found.server.gpus_named, found.warnings) == (True, False, ())
    assert [group.info.simulated for group in found.groups] == [True]
    engine = {"max_model_len": 512, "dtype": "float32"}
    (warning,) = attach(make_sweep(engine=engine), server.url, gpu="sim", server_gpus=None).warnings
    assert warning.startswith("model[0].engine: dtype have no effect with --server")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "simulated"}, "--engine simulated computes without a server"),
        ({"cluster": "host:6379"}, "the cluster host:6379 has others"),
        ({"url": "localhost:8000"}, "has no scheme; did you mean http://localhost:8000?"),
        ({"url": "http://192.0.2.7:8000"}, "--server http://192.0.2.7:8000 is no address of this host"),
        ({"gpu": "0"}, "--gpu 0 chooses GPUs for our own engines: with --server, give --server-gpus 0"),
        ({"server_gpus": "0"}, "--gpu sim and --server-gpus 0 contradict each other"),
        ({"gpu": "auto", "server_gpus": "first"}, "'first' in --server-gpus 'first' is not a GPU: give indices and"),
    ],
)
def test_options_that_contradict_each_other(server: ServerProcess, options: dict[str, Any], message: str) -> None:
    asked = {"url": server.url, "gpu": "sim", "server_gpus": None} | options
    url = asked.pop("url")
    with pytest.raises(ValueError, match=re.escape(message)):
        attach(make_sweep(), url, **asked)


def test_a_model_that_is_not_served_is_refused_by_name(server: ServerProcess) -> None:
    wrong = SMALL_MODEL.replace("small", "smal")
    with pytest.raises(SweepFileError) as error:
        attach(make_sweep(id=wrong), server.url, gpu="sim", server_gpus=None, path=Path("x.toml"))
    assert str(error.value) == (
        f'x.toml: model[0].id = "{wrong}" is not served: {server.url} has {SMALL_MODEL}; did you mean "{SMALL_MODEL}"?'
    )


@pytest.mark.parametrize(
    ("behaviour", "task", "message"),
    [
        ({"gives_scores": False}, SCORES, "needs the log-probabilities of prompts, which the server at"),
        ({"takes_token_ids": False}, SCORES, "needs the log-probabilities of prompts, which the server at"),
        (
            {"gives_scores": False},
            GENERATES | {"measure_surprise": True},
            "needs the log-probabilities of prompts, which the server at",
        ),
        ({"takes_ignore_eos": False}, FIXED, "generates a fixed number of tokens, and the server at"),
    ],
)
def test_a_task_that_the_server_cannot_do_is_refused(
    behaviour: dict[str, Any], task: dict[str, Any], message: str
) -> None:
    with fake_server(**behaviour) as weak:
        with pytest.raises(SweepFileError, match=re.escape(message)) as error:
            attach(make_sweep(task), weak.url, gpu="sim", server_gpus=None)
        assert f'task[0].name = "{task["name"]}"' in str(error.value)
        attach(make_sweep(GENERATES), weak.url, gpu="sim", server_gpus=None)


def test_a_model_without_a_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HFValidationError

    def refuse(*_: Any, **__: Any) -> None:
        raise HFValidationError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with (
        fake_server(models=[{"id": "nice name"}]) as named,
        pytest.raises(ValueError, match=r"'nice name' is neither a folder .* makes its prompts with the model's tok"),
    ):
        attach(make_sweep(id="nice name"), named.url, gpu="sim", server_gpus=None)
    with fake_server(models=[{"id": "nice name", "root": SMALL_MODEL}]) as named:
        attach(make_sweep(id="nice name"), named.url, gpu="sim", server_gpus=None)


def test_a_run_measures_a_server_on_one_gpu(server: ServerProcess) -> None:
    with pytest.raises(GpuError, match="would be measured on GPUs 0, 1, and a run measures a server on one GPU"):
        find_server_group(parse_address(server.url), gpu="sim:h200x2", server_gpus=None)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put two GPUs in the place of this machine's, and processes on them."""
    nvml = open_nvml("sim:h200x2", VirtualTime(), tmp_path / "gpus")

    def find(request: str, visible: str | None, _: object) -> tuple[str, Any]:
        return "nvidia", select_gpus(nvml, request, visible)

    def open_one(_: str, uuid: str, __: object, *, read_only: bool) -> NvmlGpu:
        assert read_only
        return NvmlGpu(nvml, uuid, read_only=True)

    monkeypatch.setattr(server_gpus, "find_gpus", find)
    monkeypatch.setattr(server_gpus, "open_gpu", open_one)

    def put(*processes: frozenset[int]) -> None:
        for index, ids in enumerate(processes):
            state = GpuState(tmp_path / "gpus" / f"GPU-SIM-H200-{index}")
            state.change_conditions(GpuConditions(time_ns=0, foreign_process_ids=tuple(ids)))

    return put


def test_the_gpu_is_found_by_the_server_s_processes(server: ServerProcess, two_gpus: Callable[..., None]) -> None:
    address = parse_address(server.url)
    two_gpus(frozenset({1}), frozenset({server.process.pid, 4711}))
    group, named = find_server_group(address, gpu="auto", server_gpus=None)
    assert (group.info.index, group.gpu_request, named) == (1, "nvidia", False)
    group, named = find_server_group(address, gpu="auto", server_gpus="0")
    assert (group.info.index, named) == (0, True)

    two_gpus(frozenset({server.process.pid}), frozenset({server.process.pid}))
    with pytest.raises(GpuError, match="would be measured on GPUs 0, 1"):
        find_server_group(address, gpu="auto", server_gpus=None)


def test_a_server_without_a_gpu_is_refused_with_what_to_do(
    server: ServerProcess, two_gpus: Callable[..., None]
) -> None:
    two_gpus(frozenset({1}), frozenset({os.getpid()}))
    with pytest.raises(NoGpuError, match=r"no GPU lists a process of the server at .*--server-gpus 0.*--gpu sim"):
        find_server_group(parse_address(server.url), gpu="auto", server_gpus=None)
    nobody = parse_address(f"http://127.0.0.1:{find_free_port()}")
    with pytest.raises(NoGpuError, match=r"is not visible to this user .*--server-gpus 0"):
        find_server_group(nobody, gpu="auto", server_gpus=None)


def test_gpus_outside_cuda_visible_devices_are_not_touched(
    server: ServerProcess, two_gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_gpus(frozenset(), frozenset({server.process.pid}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(NoGpuError, match="no GPU lists a process of the server"):
        find_server_group(parse_address(server.url), gpu="auto", server_gpus=None)
    with pytest.raises(NoGpuError, match="is outside CUDA_VISIBLE_DEVICES=0"):
        find_server_group(parse_address(server.url), gpu="auto", server_gpus="1")


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (["--server-gpus", "0"], 2, "--server-gpus 0 names the GPU of a server: give its address with --server"),
        (["--server", "http://127.0.0.1:1"], 3, "no server answers at http://127.0.0.1:1"),
        (["--server", "127.0.0.1:1"], 2, "did you mean http://127.0.0.1:1?"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_commands_end_with_one_message_and_touch_nothing(
    command: str, options: list[str], exit_code: int, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f'name = "s"\n[[model]]\nid = "{SMALL_MODEL}"\n[[task]]\nname = "tiny_qa"\n')
    result = CliRunner().invoke(app, [command, str(file), "--gpu", "sim", "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == exit_code, result.output
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_plan_shows_the_sweep_of_a_server(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f'name = "s"\n[[model]]\nid = "{SMALL_MODEL}"\n[[task]]\nname = "tiny_qa"\n')
    result = CliRunner().invoke(app, ["plan", str(file), "--gpu", "sim", "--server", server.url])
    assert result.exit_code == 0, result.output
    assert "tiny_qa" in result.output


def test_only_a_named_gpu_makes_another_address_ours(server: ServerProcess) -> None:
    preflight._require_here(parse_address("http://192.0.2.7:8000"), "0")  # such as a container's own address
    with pytest.raises(ValueError, match="run sweep on its host"):
        preflight._require_here(parse_address("http://192.0.2.7:8000"), None)
