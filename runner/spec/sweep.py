"""The sweep file: what a person asks for, validated.

A TOML file enters; a frozen `SweepSpec` leaves, or a `SweepFileError` that names each wrong field, its value and what
is allowed. Whether a task or a model exists is checked by their own rooms. Next: `trial.py` expands it.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from runner.spec.problems import did_you_mean, explain
from runner.spec.values import DEFAULT, Clocks, PowerLimits, as_tuple


class SweepFileError(ValueError):
    """The sweep file is wrong; `problems` holds one message for each thing that is."""

    def __init__(self, path: Path | None, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        where = f"{path}: " if path else ""
        lines = f"\n{where}".join(self.problems)
        super().__init__(f"{where}{lines}")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


PositiveInt = Annotated[int, Field(ge=1)]
Concurrencies = Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
Phases = Literal["static_batches", "output_lengths"]
MIN_OUTPUT_TOKENS_FOR_LENGTHS = 4
"""Half of it must leave both trials some decoding, and a difference between them."""
NUM_FILES_NAMED = 10
"""In the message about a sweep file that is not there."""
_SPREADS_OVER_GPUS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
MIN_REPEAT_EACH_S = 2.0
"""As long as the shortest window: 100 power samples for one prompt's energy."""


class ModelSpec(_Spec):
    """A model and how vLLM opens it."""

    id: str = Field(min_length=1)
    """Hugging Face id, a local folder, or shapes/NAME (random weights in a real shape)."""
    revision: str | None = None
    apply_chat_template: bool = False
    twin: str | None = None
    """Without a GPU: the shape whose seconds and joules the simulated GPU computes (docs/physics.md)."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Passed to vLLM as it is."""

    @field_validator("engine")
    @classmethod
    def _check_one_gpu(cls, engine: dict[str, Any]) -> dict[str, Any]:
        for name in _SPREADS_OVER_GPUS:
            if engine.get(name, 1) != 1:
                raise ValueError(
                    f"{name} = {engine[name]!r} asks for several GPUs, but a worker drives one and measures one: "
                    f"leave {name} out. Several GPUs share the blocks of a sweep (--gpu all)"
                )
        return engine

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.id


class TaskSpec(_Spec):
    """A workload: a harness task by name, or `synthetic` with set lengths."""

    name: str = Field(min_length=1)
    label: str | None = Field(None, min_length=1)
    """The name in tables, where one task stands in a sweep twice."""
    limit: PositiveInt | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    quality_metric: str | None = None
    max_output_tokens: PositiveInt | None = None
    num_prompt_tokens: PositiveInt | None = None
    num_output_tokens: PositiveInt | None = None
    num_requests: PositiveInt | None = None
    phases: Phases | None = None
    """Tell prefill's energy from decoding's: by windows of static batches, or by trials of other output lengths."""
    repeat_each_s: Annotated[float, Field(ge=MIN_REPEAT_EACH_S, strict=False)] | None = None
    """Repeat each prompt for so long before the next one, alone on the GPU, so that its own energy is measured."""
    measure_surprise: bool = False
    """Ask the model, outside every window, how likely it finds each prompt (docs/inputs.md)."""

    @property
    def is_synthetic(self) -> bool:
        """Whether the prompts are random tokens."""
        return self.name == "synthetic"

    @property
    def display_name(self) -> str:
        """The name in tables."""
        if self.label:
            return self.label
        return f"synthetic-{self.num_prompt_tokens}x{self.num_output_tokens}" if self.is_synthetic else self.name

    @model_validator(mode="after")
    def _check_lengths(self) -> "TaskSpec":
        lengths = ("num_prompt_tokens", "num_output_tokens", "num_requests")
        given = [name for name in lengths if getattr(self, name) is not None]
        if self.is_synthetic:
            if missing := [name for name in lengths if name not in given]:
                raise ValueError(f'task "synthetic" also needs {", ".join(missing)}')
            harness = ("limit", "num_fewshot", "quality_metric", "max_output_tokens")
            if wrong := [name for name in harness if getattr(self, name) is not None]:
                raise ValueError(f'task "synthetic" has no {", ".join(wrong)}: its lengths are {", ".join(lengths)}')
            if self.measure_surprise:
                raise ValueError('task "synthetic" has random tokens, which surprise alike: leave measure_surprise out')
        elif given:
            raise ValueError(f'{", ".join(given)} belong to task "synthetic" only, not to "{self.name}"')
        if self.phases and self.repeat_each_s is not None:
            raise ValueError("phases and repeat_each_s want different windows: give each a task of its own (`label`)")
        return self


class AxesSpec(_Spec):
    """The operating points: every combination is run."""

    concurrency: Concurrencies = (16,)
    sm_clock: Clocks = (DEFAULT,)
    mem_clock: Clocks = (DEFAULT,)
    power_limit: PowerLimits = (DEFAULT,)

    @field_validator("concurrency", "sm_clock", "mem_clock", "power_limit")
    @classmethod
    def _check_repeated(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if repeated := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            raise ValueError(f"names {repeated[0]!r} twice: each value stands once (see `repeats`)")
        return values


class OverrideSpec(_Spec):
    """Other axes for one model, one task, or one pair of them; axes that are not named stay as they are."""

    model: str | None = None
    task: str | None = None
    concurrency: Concurrencies | None = None
    sm_clock: Clocks | None = None
    mem_clock: Clocks | None = None
    power_limit: PowerLimits | None = None


class SamplingSpec(_Spec):
    """How tokens are drawn."""

    temperature: float = Field(0.0, ge=0.0, le=10.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: int = Field(0, ge=0)


class LimitsSpec(_Spec):
    """The most seconds that a thing may take before it counts as failed."""

    request_s: float = Field(600.0, gt=0)
    trial_s: float = Field(1800.0, gt=0)
    load_s: float = Field(1200.0, gt=0)


class SweepSpec(_Spec):
    """A whole sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    description: str = ""
    seed: int = Field(0, ge=0)
    repeats: int = Field(1, ge=1, le=10_000)
    min_window_s: float = Field(10.0, ge=0.0, le=3600.0)
    """The prompts are repeated, in whole rounds, until the window is this long."""
    max_output_tokens: PositiveInt | None = None
    fixed_output_length: bool = False
    """Ignore the end-of-text token, so that clocks are compared on equal work."""
    num_warmup_requests: int | None = Field(None, ge=0)
    """Requests before each window; as many as the concurrency unless given."""
    sentinel_every: int = Field(8, ge=1)
    """A default-clock trial opens and closes each block and stands after every so many trials."""
    clocks: Literal["apply", "read-only"] = "apply"
    sampling: SamplingSpec = SamplingSpec()
    limits: LimitsSpec = LimitsSpec()
    axes: AxesSpec = AxesSpec()
    model: Annotated[tuple[ModelSpec, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
    task: Annotated[tuple[TaskSpec, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
    override: Annotated[tuple[OverrideSpec, ...], BeforeValidator(as_tuple), Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check_names(self) -> "SweepSpec":
        models = [model.label for model in self.model]
        tasks = [task.display_name for task in self.task]
        for kind, names, remedy in (("model", models, "name it once"), ("task", tasks, "give each its own `label`")):
            if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ValueError(f'{kind} "{repeated[0]}" stands twice: {remedy}')
        for index, override in enumerate(self.override):
            for kind, wanted, names in (("model", override.model, models), ("task", override.task, tasks)):
                if wanted is not None and wanted not in names:
                    raise ValueError(
                        f'override[{index}].{kind} = "{wanted}" is not in this sweep: '
                        f"it has {', '.join(names)}{did_you_mean(wanted, names)}"
                    )
        if self.fixed_output_length and self.max_output_tokens is None:
            for task in self.task:
                if not task.is_synthetic and task.max_output_tokens is None:
                    raise ValueError("fixed_output_length = true needs max_output_tokens: the length to generate")
        return self

    @model_validator(mode="after")
    def _check_phases(self) -> "SweepSpec":
        for index, task in enumerate(self.task):
            if task.phases is None:
                continue
            asked = f'task[{index}].phases = "{task.phases}"'
            length = self.fixed_output_tokens(task)
            if length is None:
                raise ValueError(
                    f"{asked} needs outputs of one length: task synthetic, or fixed_output_length = true with "
                    "max_output_tokens"
                )
            shortest = MIN_OUTPUT_TOKENS_FOR_LENGTHS if task.phases == "output_lengths" else 2
            if length < shortest:
                raise ValueError(f"{asked} needs at least {shortest} output tokens, and there is no more than {length}")
            self._refuse_prefix_cache(asked)
        return self

    @model_validator(mode="after")
    def _check_repeat_each(self) -> "SweepSpec":
        for index, task in enumerate(self.task):
            if task.repeat_each_s is None:
                continue
            asked = f"task[{index}].repeat_each_s = {task.repeat_each_s:g}"
            for model in self.model:
                if other := [number for number in self.axes_of(model, task).concurrency if number != 1]:
                    raise ValueError(
                        f"{asked} measures a prompt that is alone on the GPU: its concurrency must be 1, "
                        f"not {other[0]} (give the task an [[override]] with concurrency = 1)"
                    )
            self._refuse_prefix_cache(asked)
        return self

    def _refuse_prefix_cache(self, asked: str) -> None:
        """Prompts that are repeated would be answered from it, and prefill would look free."""
        for model in self.model:
            if model.engine.get("enable_prefix_caching"):
                raise ValueError(
                    f'{asked} repeats prompts, which the prefix cache of model "{model.label}" would answer: '
                    "leave enable_prefix_caching out"
                )

    def axes_of(self, model: ModelSpec, task: TaskSpec) -> AxesSpec:
        """Return the axes with every override that names this pair, later ones over earlier ones."""
        changes: dict[str, object] = {}
        for override in self.override:
            if override.model in (None, model.label) and override.task in (None, task.display_name):
                changes |= override.model_dump(exclude={"model", "task"}, exclude_none=True)
        return self.axes.model_copy(update=changes)

    def fixed_output_tokens(self, task: TaskSpec) -> int | None:
        """Return the number of tokens that every request of a task generates; None where each ends when it ends."""
        if task.is_synthetic:
            return task.num_output_tokens
        return (task.max_output_tokens or self.max_output_tokens) if self.fixed_output_length else None


def load_sweep(path: Path) -> SweepSpec:
    """Read and check a sweep file.

    Raises: SweepFileError: no such file, not TOML, or anything in it that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise SweepFileError(path, [f"there is no such file{_name_others(path)}"]) from None
    except IsADirectoryError:
        raise SweepFileError(path, [f"is a folder, not a sweep file{_name_others(path)}"]) from None
    except UnicodeDecodeError as error:
        raise SweepFileError(path, [f"is not text in UTF-8 (byte {error.start}): save it in that encoding"]) from None
    except OSError as error:
        raise SweepFileError(path, [f"cannot be read: {error.strerror}"]) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SweepFileError(path, [f"is not TOML: {error}"]) from None
    return parse_sweep(document, path)


def _name_others(path: Path) -> str:
    """Say which sweep files there are: the one that must have been meant, else the first few."""
    folder = path if path.is_dir() else path.parent if path.parent.is_dir() else Path("sweeps")
    here = sorted(other for other in folder.glob("*.toml") if other.is_file())
    if near := difflib.get_close_matches(path.name, [other.name for other in here], n=1):
        return f'; did you mean "{folder / near[0]}"?'
    more = f" and {len(here) - NUM_FILES_NAMED} more" if len(here) > NUM_FILES_NAMED else ""
    return f"; there are {', '.join(map(str, here[:NUM_FILES_NAMED]))}{more}" if here else ""


def parse_sweep(document: dict[str, Any], path: Path | None = None) -> SweepSpec:
    """Check a sweep that is already read; `path` only names it in messages. Raises: SweepFileError."""
    try:
        return SweepSpec.model_validate(document)
    except ValidationError as error:
        problems = dict.fromkeys(explain(details, SweepSpec) for details in error.errors())
        raise SweepFileError(path, list(problems)) from None
