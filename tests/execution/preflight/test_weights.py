"""Weights against a GPU's memory."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.execution.preflight import weights
from runner.execution.preflight.weights import ModelTooLargeError, list_too_large, read_weights, require_fit
from runner.hardware.factory import open_nvml
from runner.hardware.gpu import GpuInfo
from runner.hardware.selection import select_gpus
from runner.inference.vllm.engine_arguments import EngineArguments
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec, parse_sweep
from runner.timebase import WallTime

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}
NUM_PARAMETERS = 2 * (2 * 64 * 16 * 8 + 3 * 64 * 128) + 2 * 64 * 1000


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuInfo:
    """A GPU with 24 GB, of which vLLM may use 0.92."""
    known = EngineArguments(
        version="0.99",
        types={},
        defaults={"gpu_memory_utilization": 0.92},
        quantizations=("awq", "fp8", "fp8_per_tensor"),
    )
    monkeypatch.setattr(weights, "read_engine_arguments", lambda: known)
    [info] = select_gpus(open_nvml("sim", WallTime(), tmp_path / "gpus"), "0", None)
    return replace(info, name="Small GPU", simulated=False, memory_total_bytes=24_000_000_000)


def make_sweep(**model: Any) -> SweepSpec:
    return parse_sweep({"name": "s", "model": [model], "task": [{"name": "tiny_qa"}]})


def write_model(folder: Path, files: dict[str, dict[str, tuple[str, list[int]]]], **config: Any) -> Path:
    """Write a model whose files hold tensors of a type and a shape, as headers without data."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    for name, tensors in files.items():
        held = {key: {"dtype": dtype, "shape": shape} for key, (dtype, shape) in tensors.items()}
        header = json.dumps({"__metadata__": {"format": "pt"}} | held).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def test_weights_over_the_engines_share_are_refused_with_the_numbers_and_what_helps(gpu: GpuInfo) -> None:
    with pytest.raises(ModelTooLargeError) as refused:
        require_fit(make_sweep(id="shapes/mistral-small-24b"), [gpu, gpu])
    assert str(refused.value) == (
        'model[0].id = "shapes/mistral-small-24b": its 23.6 billion weights take 47.1 GB, but an engine may hold '
        "22.1 GB on Small GPU (gpu_memory_utilization 0.92 of 24.0 GB): "
        "choose a GPU with more memory or a smaller model"
    )
    with pytest.raises(ModelTooLargeError, match=r'quantization = "fp8_per_tensor" would take 23\.6 GB; else choose a'):
        require_fit(make_sweep(id="shapes/mistral-small-24b"), [replace(gpu, memory_total_bytes=26_000_000_000)])


@pytest.mark.parametrize(
    ("engine", "fits"),
    [
        ({}, True),  # 7.25 billion weights of 2 bytes in 22.1 GB
        ({"dtype": "float32"}, False),
        ({"gpu_memory_utilization": 0.5}, False),
        ({"gpu_memory_utilization": 0.5, "quantization": "fp8_per_tensor"}, True),
        ({"gpu_memory_utilization": 0.5, "quantization": "of a plugin"}, True),  # not known
        ({"gpu_memory_utilization": 0.5, "cpu_offload_gb": 4}, True),
        ({"gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 10**9}, True),
    ],
)
def test_engine_arguments_decide_what_is_needed_and_what_there_is(
    gpu: GpuInfo, engine: dict[str, Any], fits: bool
) -> None:
    sweep = make_sweep(id="shapes/mistral-7b", engine=engine)
    if fits:
        require_fit(sweep, [gpu])
    else:
        with pytest.raises(ModelTooLargeError):
            require_fit(sweep, [gpu])


def test_each_variant_and_each_kind_of_gpu_counts(gpu: GpuInfo) -> None:
    large = replace(gpu, name="Large GPU", memory_total_bytes=141_000_000_000)
    sweep = make_sweep(id="shapes/mistral-7b", grid={"dtype": ["bfloat16", "float32"]})
    require_fit(sweep, [large])
    with pytest.raises(ModelTooLargeError, match=r"^.*\(dtype=float32\): its 7\.\d+ billion .* on Small GPU .*$"):
        require_fit(sweep, [large, gpu])


def test_a_simulated_gpu_refuses_nothing_and_a_warning_says_what_a_real_one_would(gpu: GpuInfo) -> None:
    sweep, simulated = make_sweep(id="shapes/qwen2.5-32b"), replace(gpu, simulated=True)
    require_fit(sweep, [simulated])
    [warning] = list_too_large(sweep, [simulated])
    assert "32.8 billion weights" in warning
    assert list_too_large(sweep, [gpu]) == []


def test_what_is_not_known_is_not_refused(gpu: GpuInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    require_fit(make_sweep(id="org/model-that-is-not-here"), [gpu])
    require_fit(make_sweep(id="shapes/qwen2.5-32b"), [replace(gpu, memory_total_bytes=None)])
    for config in ({"num_experts": 8}, {"hidden_size": None}, {"quantization_config": {"quant_method": "awq"}}):
        folder = write_model(tmp_path / "model", {}, **config)
        assert read_weights(ModelSpec(id=str(folder))) is None, config
    (tmp_path / "model" / "config.json").write_text("[")
    assert read_weights(ModelSpec(id=str(tmp_path / "model"))) is None


def size_bytes(folder: Path, dtype: str = "auto", quantization: str | None = None) -> float | None:
    found = read_weights(ModelSpec(id=str(folder)))
    assert found is not None
    return found.size_bytes(dtype, quantization)


def test_files_count_before_the_configuration(tmp_path: Path) -> None:
    tensors = {"a": ("F32", [10, 100]), "b": ("F32", [24])}
    folder = write_model(tmp_path / "model", {"model.safetensors": tensors})
    assert size_bytes(folder) == 2 * 1024  # vLLM loads them with 16 bits
    assert size_bytes(folder, "float32") == 4 * 1024
    assert size_bytes(folder, "float32", "fp8_per_block") == 1024
    assert size_bytes(write_model(tmp_path / "config", {})) == 2 * NUM_PARAMETERS


def test_weights_that_are_stored_quantized_take_what_they_take(tmp_path: Path) -> None:
    tensors = {"packed": ("I32", [10, 100]), "scale": ("F16", [12])}
    folder = write_model(tmp_path / "awq", {"model.safetensors": tensors}, quantization_config={"quant_method": "awq"})
    assert size_bytes(folder, "float32") == 4000 + 24
    fp8 = write_model(tmp_path / "fp8", {}, quantization_config={"quant_method": "fp8"})
    assert size_bytes(fp8) == NUM_PARAMETERS


def test_the_same_weights_twice_in_a_folder_count_once(tmp_path: Path) -> None:
    tensors = {"a": ("BF16", [1000])}
    folder = write_model(tmp_path / "twice", {"model.safetensors": tensors, "consolidated.safetensors": tensors})
    assert size_bytes(folder) == 2000
    sharded = {f"model-{i}.safetensors": {f"t{i}": ("BF16", [1000])} for i in (1, 2)}
    folder = write_model(tmp_path / "sharded", sharded | {"other.safetensors": tensors})
    index = {"weight_map": {"t1": "model-1.safetensors", "t2": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert size_bytes(folder) == 4000


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, struct.pack("<Q", 4) + b"[1]\n"])
def test_a_damaged_or_missing_file_leaves_the_configuration(tmp_path: Path, content: bytes) -> None:
    folder = write_model(tmp_path / "model", {})
    (folder / "model.safetensors").write_bytes(content)
    assert size_bytes(folder) == 2 * NUM_PARAMETERS
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "not-there.safetensors"}}')
    assert size_bytes(folder) == 2 * NUM_PARAMETERS


def test_our_own_models_are_counted_exactly() -> None:
    [found] = [read_weights(ModelSpec(id=str(Path(__file__).parents[3] / "models" / "joulesweep-small")))]
    assert found is not None
    assert found.stored_bytes is None
    assert 60_000 < found.num_parameters < 70_000
