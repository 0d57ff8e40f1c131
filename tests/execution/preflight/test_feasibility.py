"""The checks before any engine is loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.execution.driver.cluster import find_gpu_groups
from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.feasibility import require_settable, require_tokenizers
from runner.hardware.gpu import NotSupportedError, PermissionDeniedError
from runner.spec.sweep import SweepFileError, parse_sweep
from runner.spec.trial import Block, expand_trials
from tests.execution.sweep_process import SweepProcess

TASK = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8, "num_requests": 2}


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuGroup:
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    return find_gpu_groups("sim", None)[0]


def blocks_of(*, read_only: bool = False, **axes: object) -> list[Block]:
    sweep = parse_sweep({"name": "s", "model": [{"id": "m"}], "task": [TASK], "axes": axes})
    return expand_trials(sweep, read_only=read_only)


def test_every_wrong_value_is_named_once_for_all_gpus_of_a_kind(group: GpuGroup) -> None:
    blocks = blocks_of(concurrency=[1, 2], sm_clock=[5000, 1200, 100], power_limit=[900])
    with pytest.raises(ValueError, match="out of range") as refused:
        require_settable(blocks, [group, group])
    lines = str(refused.value).splitlines()
    assert sorted(line.partition(" is ")[0] for line in lines) == [
        "power_limit = 900.0",
        "sm_clock = 100",
        "sm_clock = 5000",
    ]


def test_one_gpu_of_many_that_lacks_an_axis_is_enough(group: GpuGroup) -> None:
    blocks = blocks_of(mem_clock=["100%"])
    require_settable(blocks, [group])
    single = replace(group, info=replace(group.info, name="Other GPU", mem_clocks_mhz=(2619,)))
    with pytest.raises(NotSupportedError, match="Other GPU has one memory clock, 2619 MHz"):
        require_settable(blocks, [group, single])


def test_a_host_that_may_not_set_is_named_unless_nothing_is_to_be_set(group: GpuGroup) -> None:
    barred = replace(group, host="node7", obstacle="only root may")
    with pytest.raises(PermissionDeniedError, match="cannot be set on node7: only root may"):
        require_settable(blocks_of(sm_clock=["default", "60%"]), [group, barred])
    require_settable(blocks_of(sm_clock=["default"]), [barred])
    require_settable(blocks_of(sm_clock=["default", "60%"], read_only=True), [barred])


@pytest.mark.parametrize(
    ("model", "is_refused"),
    [
        ({"id": "shapes/llama-3.2-1b"}, True),
        ({"id": "shapes/llama-3.2-1b", "engine": {"skip_tokenizer_init": False, "tokenizer": "org/model"}}, False),
        ({"id": "org/model"}, False),
    ],
)
def test_texts_need_a_tokenizer(model: dict[str, object], is_refused: bool) -> None:
    sweep = parse_sweep({"name": "s", "model": [model], "task": [TASK, {"name": "tiny_qa"}]})
    if is_refused:
        with pytest.raises(SweepFileError, match=r'model\[0\]\.id = .* no tokenizer, but task\[1\]\.name = "tiny_qa"'):
            require_tokenizers(sweep, Path("s.toml"))
    else:
        require_tokenizers(sweep, Path("s.toml"))
    require_tokenizers(parse_sweep({"name": "s", "model": [model], "task": [TASK]}), Path("s.toml"))


def test_on_a_cluster_each_node_is_asked(
    start_sweep: Callable[..., SweepProcess],
    write_sweep: Callable[..., Path],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEP_SIMULATED_PERMISSION", "denied")
    refused = start_sweep(write_sweep(), "--address", address)
    assert refused.wait() == 3, refused.output
    assert "SWEEP_SIMULATED_PERMISSION=denied" in refused.output
    assert "Traceback" not in refused.output
    assert not (tmp_path / "run").exists()
