"""Shapes and vLLM: a shape opened in place of a model, and the shape of an opened model."""

from pathlib import Path

from runner.inference.engine import EngineError
from runner.inference.vllm.compat import ModelConfig
from runner.physics.shape import SHAPES_DIR, ModelShape, shape_from_config, shape_names

SHAPES_PREFIX = "shapes/"
"""What the name of such a model begins with."""


def find_shape_folder(model: str) -> Path | None:
    """Return the folder with the configuration of shapes/NAME; None for any other model.

    Raises: EngineError: there is no such shape.
    """
    if not model.startswith(SHAPES_PREFIX):
        return None
    name = model.removeprefix(SHAPES_PREFIX)
    if name not in shape_names():
        known = ", ".join(f"{SHAPES_PREFIX}{known}" for known in shape_names())
        raise EngineError(f"there is no {model}; there are {known}")
    return SHAPES_DIR / name


def read_shape(model_config: ModelConfig) -> ModelShape | None:
    """Return the shape of a model that vLLM has opened, in the precision in which it runs.

    Returns: None where the configuration lacks a size, or the model is a mixture of experts.
    """
    config = {**model_config.hf_text_config.to_dict(), "torch_dtype": str(model_config.dtype)}
    try:
        return shape_from_config(config, str(model_config.model))
    except (TypeError, ValueError):
        return None
