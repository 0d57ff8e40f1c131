"""A model of the sweep file, and its variants: the same model opened with other engine arguments.

A table `[[model]]` enters. `ModelSpec.variants` are the models that blocks are made of, each with a label of its own.
"""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from runner.spec.operating_point import DEFAULT
from runner.spec.strict import StrictSpec
from runner.spec.values import as_tuple

GridValues = Annotated[tuple[Any, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
_ONE_GPU_ARGUMENTS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


class ModelSpec(StrictSpec):
    """A model, and how vLLM opens it."""

    id: str = Field(min_length=1)
    """Hugging Face id, a local folder, or shapes/NAME (random weights in a real shape)."""
    label: str = Field("", min_length=1)
    """The name in tables and overrides; the id unless given. A sweep that lists one model twice needs it."""
    revision: str | None = None
    apply_chat_template: bool = False
    twin: str | None = None
    """The modelled shape: on a simulated GPU, its seconds and joules stand for the model's (docs/physics.md)."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Arguments for vLLM, passed on unchanged."""
    grid: dict[str, GridValues] = Field(default_factory=dict)
    """Engine arguments with several values each. "default" leaves the argument out."""

    @model_validator(mode="before")
    @classmethod
    def _label_with_id(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            return {**data, "label": data.get("label", data["id"])}
        return data

    @field_validator("engine")
    @classmethod
    def _check_one_gpu(cls, engine: dict[str, Any]) -> dict[str, Any]:
        for name in _ONE_GPU_ARGUMENTS:
            if engine.get(name, 1) != 1:
                raise ValueError(_explain_one_gpu(name, engine[name]))
        return engine

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for name, values in grid.items():
            shown = [show_value(value) for value in values]
            if repeated := [text for place, text in enumerate(shown) if text in shown[:place]]:
                raise ValueError(f"{name} contains {repeated[0]} twice: list each value once")
            for value in values:
                if name in _ONE_GPU_ARGUMENTS and value not in (DEFAULT, 1):
                    raise ValueError(_explain_one_gpu(name, value))
        return grid

    @model_validator(mode="after")
    def _check_one_place(self) -> "ModelSpec":
        if both := [name for name in self.grid if name in self.engine]:
            raise ValueError(
                f"{both[0]} stands in engine and in grid: leave it out of engine (a grid may hold {DEFAULT!r}, "
                "which leaves it to vLLM)"
            )
        return self

    @property
    def variants(self) -> "tuple[ModelSpec, ...]":
        """The models that the grid stands for: one for each combination of its values. Without a grid, itself."""
        return tuple(self._vary(dict(zip(self.grid, values, strict=True))) for values in product(*self.grid.values()))

    def _vary(self, chosen: Mapping[str, Any]) -> "ModelSpec":
        if not chosen:
            return self
        label = ", ".join([self.label, *(f"{name}={show_value(value)}" for name, value in chosen.items())])
        given = {name: value for name, value in chosen.items() if value != DEFAULT}
        return self.model_copy(update={"label": label, "engine": self.engine | given, "grid": {}})

    def content(self) -> dict[str, Any]:
        """Return what trial ids depend on. Labels are names alone, and a grid says no more than its variants."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"label", "grid"})


def show_value(value: object) -> str:
    """Return a value of an engine argument as a label shows it, e.g. fp8, true or {method: ngram}."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {show_value(held)}' for key, held in value.items())}}}"
    return f"[{', '.join(map(show_value, value))}]" if isinstance(value, list | tuple) else str(value)


def _explain_one_gpu(name: str, value: object) -> str:
    return (
        f"{name} = {value!r} asks for several GPUs, but an engine runs on one: leave {name} out. "
        "With --gpu all, the GPUs share the blocks of a sweep"
    )
