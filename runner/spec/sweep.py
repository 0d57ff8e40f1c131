"""The sweep file: what a person asks for, validated.

A TOML file enters; a frozen `SweepSpec` leaves, or a `SweepFileError` that names each wrong field, its value and what
is allowed. Whether a task or a model exists is checked by their own rooms. Next: `trial.py` expands it.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from runner.spec.problems import did_you_mean, explain

DEFAULT = "default"


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


def _tuple(value: object) -> object:
    """TOML has lists; frozen specifications hold tuples. One value stands for a list of one."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str | int | float | dict):
        return (value,)
    return value


_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)%$")

ClockValue = int | str
"""MHz, "80%" of the highest supported, "default", or "spaced 2/8": the second of eight from highest to lowest."""


def _expand_spaced(value: object) -> object:
    values = _tuple(value)
    if not isinstance(values, tuple):
        return value
    expanded: list[object] = []
    for item in values:
        if isinstance(item, dict) and set(item) == {"spaced"}:
            count = item["spaced"]
            if type(count) is not int or not 2 <= count <= 64:
                raise ValueError(f"spaced = {count!r} is not a whole number from 2 to 64")
            expanded += [f"spaced {k}/{count}" for k in range(1, count + 1)]
        else:
            expanded.append(item)
    return tuple(expanded)


def _check_point(value: object, unit: str) -> object:
    allowed = f'"{DEFAULT}", a percentage such as "80%", or a number of {unit}'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"is not allowed here: give {allowed}")
    if isinstance(value, str):
        match = _PERCENT.match(value)
        if value != DEFAULT and not value.startswith("spaced ") and not match:
            raise ValueError(f"is not allowed here: give {allowed}{did_you_mean(value, [DEFAULT])}")
        if match and not 0 < float(match[1]) <= 100:
            raise ValueError("is out of range: a percentage lies above 0% and at most at 100%")
    elif value <= 0:
        raise ValueError(f"is out of range: {unit} are greater than 0")
    return value


def _check_clock(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("is not allowed here: a clock is a whole number of MHz")
    return _check_point(value, "MHz")


def _check_limit(value: object) -> object:
    if isinstance(value, str) and value.startswith("spaced "):
        raise ValueError("is not allowed here: only clocks can be spaced")
    return float(value) if type(_check_point(value, "W")) is int else value  # type: ignore[arg-type]


Clock = Annotated[ClockValue, BeforeValidator(_check_clock)]
PowerLimit = Annotated[float | str, BeforeValidator(_check_limit)]
PositiveInt = Annotated[int, Field(ge=1)]
Clocks = Annotated[tuple[Clock, ...], BeforeValidator(_expand_spaced), Field(min_length=1, strict=False)]


class ModelSpec(_Spec):
    """A model and how vLLM opens it."""

    id: str = Field(min_length=1)
    """Hugging Face id, a local folder, or shapes/NAME (random weights in a real shape)."""
    revision: str | None = None
    apply_chat_template: bool = False
    twin: str | None = None
    """Without a GPU: the shape whose seconds and joules the simulated board computes (docs/physics.md)."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Passed to vLLM as it is."""

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
        elif given:
            raise ValueError(f'{", ".join(given)} belong to task "synthetic" only, not to "{self.name}"')
        return self


class AxesSpec(_Spec):
    """The operating points: every combination is run."""

    concurrency: Annotated[tuple[PositiveInt, ...], BeforeValidator(_tuple), Field(min_length=1, strict=False)] = (16,)
    sm_clock: Clocks = (DEFAULT,)
    mem_clock: Clocks = (DEFAULT,)
    power_limit: Annotated[tuple[PowerLimit, ...], BeforeValidator(_tuple), Field(min_length=1, strict=False)] = (
        DEFAULT,
    )

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
    concurrency: Annotated[tuple[PositiveInt, ...], BeforeValidator(_tuple), Field(strict=False)] | None = None
    sm_clock: Clocks | None = None
    mem_clock: Clocks | None = None
    power_limit: (
        Annotated[tuple[PowerLimit, ...], BeforeValidator(_tuple), Field(min_length=1, strict=False)] | None
    ) = None


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
    model: Annotated[tuple[ModelSpec, ...], BeforeValidator(_tuple), Field(min_length=1, strict=False)]
    task: Annotated[tuple[TaskSpec, ...], BeforeValidator(_tuple), Field(min_length=1, strict=False)]
    override: Annotated[tuple[OverrideSpec, ...], BeforeValidator(_tuple), Field(strict=False)] = ()

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


def load_sweep(path: Path) -> SweepSpec:
    """Read and check a sweep file.

    Raises: SweepFileError: no such file, not TOML, or anything in it that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path("sweeps")
        here = sorted(str(other) for other in folder.glob("*.toml"))
        listing = f"; there are {', '.join(here)}" if here else ""
        raise SweepFileError(path, [f"there is no such file{listing}{did_you_mean(str(path), here)}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SweepFileError(path, [f"cannot be read: {error}"]) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SweepFileError(path, [f"is not TOML: {error}"]) from None
    return parse_sweep(document, path)


def parse_sweep(document: dict[str, Any], path: Path | None = None) -> SweepSpec:
    """Check a sweep that is already read; `path` only names it in messages. Raises: SweepFileError."""
    try:
        return SweepSpec.model_validate(document)
    except ValidationError as error:
        problems = dict.fromkeys(explain(details, SweepSpec) for details in error.errors())
        raise SweepFileError(path, list(problems)) from None
