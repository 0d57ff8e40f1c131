"""The check of a model's weights against the memory of a GPU, before anything is downloaded or loaded.

The models of a sweep and the GPUs enter. A message for each model that cannot fit leaves. Only what is on this machine
is read: the files of a folder, of the hub's cache, or of a shape. Any other model's size is not known, and not checked.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.execution.preflight.model_files import find_cached, find_cached_config, is_on_hub
from runner.hardware.gpu import GpuError, GpuInfo
from runner.inference.vllm.engine_arguments import read_engine_arguments
from runner.inference.vllm.shapes import SHAPES_PREFIX
from runner.physics.shape import SHAPES_DIR, shape_from_config
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec

_GIB = 2**30
_MEMORY_UTILIZATION = 0.9
"""vLLM's share of a GPU's memory where neither the sweep file nor the installed vLLM tells it."""
_DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_AUTO_BYTES = 2
"""vLLM loads weights of 16 or 32 bits with 16 where dtype is "auto"."""
_QUANTIZED_BYTES = {
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "mxfp8"), 1.0),
    **dict.fromkeys(("mxfp4", "bitsandbytes"), 0.5),
}
"""Bytes of a weight that vLLM itself quantizes. Scales, and layers that stay as they are, come on top."""
_STORED_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_SUGGESTED = ("fp8_per_tensor", "fp8")
"""In order of preference. From some release on, vLLM takes "fp8" only for weights that are stored so."""


class ModelTooLargeError(GpuError):
    """The weights of a model are more than an engine may hold on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The weights of a model."""

    num_parameters: int
    stored_bytes: int | None
    """In files that are quantized already, which vLLM keeps; None for others."""

    def size_bytes(self, dtype: str, quantization: str | None) -> float | None:
        """Return the least memory that they take; None where that is not known."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        if quantization is not None:
            per_weight = _QUANTIZED_BYTES.get(quantization)
            return None if per_weight is None else per_weight * self.num_parameters
        return self.num_parameters * _DTYPE_BYTES.get(dtype, _AUTO_BYTES)


def require_fit(sweep: SweepSpec, gpus: Sequence[GpuInfo]) -> None:
    """Refuse models whose weights alone are more than an engine may hold. Raises: ModelTooLargeError: all of them."""
    if problems := list(_find_too_large(sweep, [gpu for gpu in gpus if not gpu.simulated])):
        raise ModelTooLargeError("\n".join(problems))


def list_too_large(sweep: SweepSpec, gpus: Sequence[GpuInfo]) -> list[str]:
    """Return the models that a real GPU would refuse. A simulated GPU has no memory that could be full."""
    return list(_find_too_large(sweep, [gpu for gpu in gpus if gpu.simulated]))


def _find_too_large(sweep: SweepSpec, gpus: Sequence[GpuInfo]) -> Iterator[str]:
    kinds = {(gpu.name, gpu.memory_total_bytes): gpu for gpu in gpus}.values()
    for index, entry in enumerate(sweep.model):
        for model in entry.variants:
            for gpu in kinds:
                if problem := _explain_too_large(model, gpu):
                    yield f'model[{index}].id = "{model.id}"{problem}'


def _explain_too_large(model: ModelSpec, gpu: GpuInfo) -> str | None:
    """Return why a model cannot be held, as the end of a message; None where it can, or where that is not known."""
    if gpu.memory_total_bytes is None or (weights := read_weights(model)) is None:
        return None
    dtype, quantization = str(model.engine.get("dtype", "auto")), model.engine.get("quantization")
    size = weights.size_bytes(dtype, quantization)
    share, room = _find_room(model.engine, gpu.memory_total_bytes)
    if size is None or size <= room:
        return None
    how = ", ".join(
        f"{name}={model.engine[name]}" for name in ("dtype", "quantization") if model.engine.get(name) is not None
    )
    advice = "choose a GPU with more memory or a smaller model"
    known = read_engine_arguments()
    suggested = next((name for name in _SUGGESTED if known and name in known.quantizations), _SUGGESTED[-1])
    smaller = weights.size_bytes(dtype, suggested)
    if quantization is None and smaller is not None and smaller <= room:
        advice = f'quantization = "{suggested}" would take {_gb(smaller)}; else {advice}'
    return (
        f"{f' ({how})' if how else ''}: its {weights.num_parameters / 1e9:.3g} billion weights take {_gb(size)}, but "
        f"an engine may hold {_gb(room)} on {gpu.name} ({share} of {_gb(gpu.memory_total_bytes)}): {advice}"
    )


def _find_room(engine: Mapping[str, Any], total_bytes: int) -> tuple[str, float]:
    """Return the memory that an engine may use for weights, in bytes, and the share of the GPU's memory in words."""
    offloaded = engine.get("cpu_offload_gb", 0)
    extra = offloaded * _GIB if isinstance(offloaded, int | float) else 0.0
    if engine.get("kv_cache_memory_bytes") is not None:  # vLLM ignores the share then
        return "all", total_bytes + extra
    known = read_engine_arguments()
    usual = known.defaults.get("gpu_memory_utilization") if known else None
    share = engine.get("gpu_memory_utilization", usual)
    share = share if isinstance(share, int | float) else _MEMORY_UTILIZATION
    return f"gpu_memory_utilization {share:g}", share * total_bytes + extra


def read_weights(model: ModelSpec) -> Weights | None:
    """Return what is known of a model's weights from files on this machine; None where nothing is."""
    folder = _find_folder(model)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder else None
    except (OSError, ValueError):
        return None
    if folder is None or not isinstance(config, dict):
        return None
    is_quantized = bool(config.get("quantization_config"))
    if tensors := _read_tensors(_list_files(folder)):
        stored = sum(size for _, size in tensors)
        num_parameters = sum(count for count, _ in tensors)
        return Weights(num_parameters=num_parameters, stored_bytes=stored if is_quantized else None)
    try:
        shape = shape_from_config(config)
    except (TypeError, ValueError):
        return None
    if is_quantized and shape.bytes_per_weight != 1:
        return None  # its bits a weight are not known
    stored_bytes = round(shape.weight_bytes) if is_quantized else None
    return Weights(num_parameters=shape.num_parameters, stored_bytes=stored_bytes)


def _find_folder(model: ModelSpec) -> Path | None:
    if model.id.startswith(SHAPES_PREFIX):
        return SHAPES_DIR / model.id.removeprefix(SHAPES_PREFIX)
    if is_on_hub(model.id):
        return find_cached(model.id, model.revision) or find_cached_config(model.id, model.revision)
    return Path(model.id)


def _list_files(folder: Path) -> list[Path]:
    """Return the safetensors files that vLLM would load: those of the index, or else all. Some may be missing."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return [folder / name for name in sorted(set(weight_map.values()))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return []
    files = sorted(folder.glob("*.safetensors"))
    return [path for path in files if not path.name.startswith("consolidated")] or files


def _read_tensors(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the number of elements and the bytes of each tensor, from the headers of safetensors files.

    Returns: empty where a file is missing or has no header, so that the size is not known.
    """
    tensors = []
    try:
        for path in files:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > path.stat().st_size:
                    return []
                header = json.loads(file.read(length))
            for name, tensor in header.items():
                if name != "__metadata__":
                    count = math.prod(tensor["shape"])
                    tensors.append((count, count * _STORED_BYTES.get(tensor["dtype"], 1)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return []
    return tensors


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
