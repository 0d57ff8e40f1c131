"""What stands in the way of a run, as a plan tells it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.execution.driver.cluster import find_gpu_groups
from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.model_access import ModelAccess
from runner.execution.preflight.refusals import find_problem, list_warnings
from runner.execution.preflight.weights import ModelTooLargeError
from runner.inference.engine import EngineError
from runner.spec.sweep import parse_sweep
from runner.spec.trial import expand_trials

SYNTHETIC = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8, "num_requests": 2}
SILENT = ModelAccess(label="org/m", commit=None, problem="unreachable", message="the hub does not answer")


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuGroup:
    monkeypatch.setenv("SWEEP_SIMULATED_STATE", str(tmp_path / "gpus"))
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    return find_gpu_groups("sim", None)[0]


def find(group: GpuGroup, models: Sequence[ModelAccess] = (), **model: Any) -> Exception | None:
    sweep = parse_sweep({"name": "s", "model": [{"id": "shapes/qwen2.5-32b", **model}], "task": [SYNTHETIC]})
    return find_problem(sweep, None, expand_trials(sweep), [group], models)


def warn(group: GpuGroup, *models: dict[str, Any], access: Sequence[ModelAccess] = ()) -> tuple[str, ...]:
    sweep = parse_sweep({"name": "s", "model": list(models), "task": [SYNTHETIC]})
    return list_warnings(sweep, [group], access)


def test_nothing_stands_in_the_way_where_a_hub_does_not_answer(group: GpuGroup) -> None:
    assert find(group, [SILENT]) is None
    assert warn(group, {"id": "org/m"}, access=[SILENT, SILENT]) == ("the hub does not answer",)


def test_an_environment_that_keeps_the_core_in_this_process_is_refused(
    group: GpuGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    problem = find(group)
    assert isinstance(problem, EngineError)
    assert "VLLM_ENABLE_V1_MULTIPROCESSING is 0" in str(problem)


def test_a_model_that_does_not_fit_is_refused_on_a_real_gpu_alone(group: GpuGroup) -> None:
    real = replace(group, info=replace(group.info, simulated=False, memory_total_bytes=8 * 10**9))
    assert isinstance(find(real), ModelTooLargeError)
    simulated = replace(group, info=replace(group.info, memory_total_bytes=8 * 10**9))
    assert find(simulated) is None
    [warning] = warn(simulated, {"id": "shapes/qwen2.5-32b"})
    assert "32.8 billion weights" in warning


def test_variants_that_a_simulated_gpu_cannot_tell_apart_are_named(group: GpuGroup) -> None:
    grid = {"max_num_seqs": [8, 16], "quantization": ["default", "fp8_per_tensor"], "dtype": ["half"]}
    [warning] = warn(group, {"id": "shapes/mistral-7b", "grid": grid})
    assert warning.startswith('models with id "shapes/mistral-7b" differ in quantization, which a simulated GPU knows')
    fast = {"id": "shapes/mistral-7b", "label": "fp8", "twin": "llama-3.1-8b-fp8", "engine": {"dtype": "half"}}
    assert warn(group, {"id": "shapes/mistral-7b"}, fast) == ()
    real = replace(group, info=replace(group.info, simulated=False))
    assert warn(real, {"id": "shapes/mistral-7b", "grid": grid}) == ()
