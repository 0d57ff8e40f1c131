"""The sweep file: what a user asks for, validated.

A TOML file enters. A frozen `SweepSpec` leaves, or a `SweepFileError` that names each wrong field, its value and what
is allowed. `execution/preflight` checks whether tasks and models exist. Next: `trial.py` expands the sweep.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from runner.spec.axes import AxesSpec, OverrideSpec
from runner.spec.checks.open_loops import check_open_loops
from runner.spec.checks.parts import (
    check_max_window,
    check_models_differ,
    check_names,
    check_phases,
    check_repeat_each,
    check_tasks_differ,
)
from runner.spec.load import WARM_UP_CONCURRENCY, ClosedLoop, Load, Replay
from runner.spec.model import ModelSpec
from runner.spec.problems import explain
from runner.spec.serving.slo import Slo
from runner.spec.serving.trace import Trace, read_trace
from runner.spec.strict import StrictSpec
from runner.spec.values import PositiveInt, RequestCount, as_tuple, count_requests


class SweepFileError(ValueError):
    """The sweep file is wrong. `problems` holds one message for each mistake."""

    def __init__(self, path: Path | None, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        where = f"{path}: " if path else ""
        lines = f"\n{where}".join(self.problems)
        super().__init__(f"{where}{lines}")


Phases = Literal["static_batches", "output_lengths"]
NUM_FILES_NAMED = 10
"""How many files the message about a missing sweep file lists."""
MIN_REPEAT_EACH_S = 2.0
"""The length of the shortest window: one prompt's energy needs 100 power samples."""


class TaskSpec(StrictSpec):
    """A task: one of the evaluation harness by name, or `synthetic` with set lengths."""

    name: str = Field(min_length=1)
    label: str | None = Field(None, min_length=1)
    """The name in tables. A sweep that lists one task twice needs it."""
    limit: PositiveInt | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    quality_metric: str | None = None
    max_output_tokens: PositiveInt | None = None
    num_prompt_tokens: PositiveInt | None = None
    num_output_tokens: PositiveInt | None = None
    num_requests: RequestCount | None = None
    """Prompts of a round, or "4 per slot": 4 for each request in flight."""
    trace: str | None = None
    """A CSV or Parquet file of recorded traffic: the requests arrive when, and are as long as, it says."""
    trace_slice_s: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """The part of the trace to replay: from and until how many seconds after its first arrival."""
    trace_time_scale: float = Field(1.0, gt=0.0, le=1e6)
    """How much longer the slice takes than it was recorded. 0.5 doubles the rate."""
    phases: Phases | None = None
    """Separate the energy of prefill from that of decoding: by static batches, or by paired trials of other lengths."""
    repeat_each_s: Annotated[float, Field(ge=MIN_REPEAT_EACH_S, strict=False)] | None = None
    """Repeat each prompt for this many seconds, alone on the GPU, so that its own energy is measured."""
    measure_surprise: bool = False
    """Measure the likelihood of each prompt, outside every window (docs/inputs.md)."""
    find_capacity: bool = False
    """Search the highest request rate that keeps the SLO at every operating point, before each window."""
    slo: Slo | None = None
    """What this task's requests must keep, in place of the sweep's `[slo]`."""

    @property
    def is_synthetic(self) -> bool:
        """Whether the prompts are random tokens."""
        return self.name == "synthetic"

    @property
    def display_name(self) -> str:
        """The name in tables."""
        if self.label:
            return self.label
        if self.trace is not None:
            return f"trace-{Path(self.trace).stem}"
        return f"synthetic-{self.num_prompt_tokens}x{self.num_output_tokens}" if self.is_synthetic else self.name

    def for_load(self, load: Load) -> "TaskSpec":
        """Return the task of a block. Its number of requests is a number, so that trial ids depend on that alone."""
        if not isinstance(self.num_requests, str):
            return self
        num_slots = load.concurrency if isinstance(load, ClosedLoop) else WARM_UP_CONCURRENCY  # refused by the checks
        return self.model_copy(update={"num_requests": count_requests(self.num_requests, num_slots)})

    def read_trace(self) -> Trace:
        """Read the task's trace. Raises: ValueError: it cannot be read. The message names the file."""
        assert self.trace is not None, "the task has a trace"
        start_s, end_s = self.trace_slice_s or (0.0, None)
        return read_trace(self.trace, start_s, end_s, self.trace_time_scale)

    def _check_trace(self, lengths: Sequence[str]) -> None:
        """Refuse what a trace says itself, and a trace that cannot be read. Raises: ValueError."""
        if not self.is_synthetic:
            raise ValueError(f'trace belongs to task "synthetic", not to "{self.name}": its prompts are random tokens')
        if lengths:
            raise ValueError(f"trace gives the lengths and the number of the requests: leave out {', '.join(lengths)}")
        if self.phases or self.repeat_each_s is not None or self.find_capacity:
            raise ValueError("trace leaves no room for phases, repeat_each_s or find_capacity: leave them out")
        try:
            self.read_trace()
        except ValueError as error:
            raise ValueError(f"trace = {error}") from None

    @model_validator(mode="after")
    def _check_lengths(self) -> "TaskSpec":
        lengths = ("num_prompt_tokens", "num_output_tokens", "num_requests")
        given = [name for name in lengths if getattr(self, name) is not None]
        if self.trace is not None:
            self._check_trace(given)
        elif self.trace_slice_s is not None or self.trace_time_scale != 1:
            raise ValueError("trace_slice_s and trace_time_scale belong to a trace, and this task has none")
        elif self.is_synthetic:
            if missing := [name for name in lengths if name not in given]:
                raise ValueError(f'task "synthetic" also needs {", ".join(missing)}')
            harness = ("limit", "num_fewshot", "quality_metric", "max_output_tokens")
            if wrong := [name for name in harness if getattr(self, name) is not None]:
                raise ValueError(f'task "synthetic" takes no {", ".join(wrong)}: give it {", ".join(lengths)}')
            if self.measure_surprise:
                raise ValueError(
                    'task "synthetic" has random prompts, whose likelihood says nothing: leave measure_surprise out'
                )
        elif given:
            raise ValueError(f'{", ".join(given)} belong to task "synthetic" only, not to "{self.name}"')
        if self.phases and self.repeat_each_s is not None:
            raise ValueError(
                "phases and repeat_each_s need different windows: give each one a task of its own, with a `label`"
            )
        return self


class SamplingSpec(StrictSpec):
    """How the engine samples tokens."""

    temperature: float = Field(0.0, ge=0.0, le=10.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: int = Field(0, ge=0)


class LimitsSpec(StrictSpec):
    """The longest times in seconds. What takes longer has failed."""

    request_s: float = Field(600.0, gt=0)
    trial_s: float = Field(1800.0, gt=0)
    load_s: float = Field(1200.0, gt=0)


class SweepSpec(StrictSpec):
    """A whole sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    description: str = ""
    seed: int = Field(0, ge=0)
    repeats: int = Field(1, ge=1, le=10_000)
    min_window_s: float = Field(10.0, ge=0.0, le=3600.0)
    """A window repeats the prompts, in whole rounds, until it is this long."""
    ramp_s: float | None = Field(None, ge=0.0, le=3600.0)
    """How long requests arrive before the window of an open loop opens. The default is a quarter of `min_window_s`."""
    max_window_s: float | None = Field(None, gt=0.0, le=86_400.0)
    """No request starts once a window is this long, even within a round. Requests in flight end. None: no limit."""
    max_output_tokens: PositiveInt | None = None
    fixed_output_length: bool = False
    """Ignore the end-of-text token, so that all clocks are compared on equal work."""
    num_warmup_requests: int | None = Field(None, ge=0)
    """Requests before each window. The default is one for each request in flight."""
    sentinel_every: int = Field(8, ge=1)
    """Sentinels open and close each block, and one follows every this many trials."""
    clocks: Literal["apply", "read-only"] = "apply"
    sampling: SamplingSpec = SamplingSpec()
    limits: LimitsSpec = LimitsSpec()
    slo: Slo | None = None
    axes: AxesSpec = AxesSpec()
    model: Annotated[tuple[ModelSpec, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
    task: Annotated[tuple[TaskSpec, ...], BeforeValidator(as_tuple), Field(min_length=1, strict=False)]
    override: Annotated[tuple[OverrideSpec, ...], BeforeValidator(as_tuple), Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check_parts_against_each_other(self) -> "SweepSpec":
        check_tasks_differ(self)
        check_models_differ(self)
        check_names(self)
        check_phases(self)
        check_repeat_each(self)
        check_open_loops(self)
        check_max_window(self)
        return self

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models that blocks are made of: each `[[model]]` of the file, or its variants."""
        return tuple(variant for model in self.model for variant in model.variants)

    def axes_of(self, model: ModelSpec, task: TaskSpec) -> AxesSpec:
        """Return the axes of a pair: those of the sweep, with every override for the pair. Later overrides win.

        An override names a model by its label, or all models of one id by that id.
        """
        changes: dict[str, object] = {}
        for override in self.override:
            if override.model in (None, model.label, model.id) and override.task in (None, task.display_name):
                asked = {name: getattr(override, name) for name in AxesSpec.model_fields}
                own = {name: values for name, values in asked.items() if values is not None}
                # An override that gives one kind of load replaces the other kind.
                if "request_rate" in own:
                    own = {"concurrency": None} | own
                elif "concurrency" in own:
                    own = {"request_rate": ()} | own
                changes |= own
        return self.axes.model_copy(update=changes)

    def loads_of(self, model: ModelSpec, task: TaskSpec) -> list[Load]:
        """Return the loads of a pair: the task's own trace, or those of its axes."""
        if task.trace is None:
            return self.axes_of(model, task).loads
        trace = task.read_trace()
        return [Replay(request_rate_per_s=trace.mean_rate_per_s, digest=trace.digest)]

    def slo_of(self, task: TaskSpec) -> Slo | None:
        """Return what a task's requests must keep; None where nothing is promised."""
        return task.slo or self.slo

    @property
    def ramp_of_open_loops_s(self) -> float:
        """How long requests arrive before the window of an open loop opens, in s."""
        return self.min_window_s / 4 if self.ramp_s is None else self.ramp_s

    def fixed_output_tokens(self, task: TaskSpec) -> int | None:
        """Return the number of tokens that every request of a task generates; None where their lengths differ."""
        if task.is_synthetic:
            return task.num_output_tokens
        return (task.max_output_tokens or self.max_output_tokens) if self.fixed_output_length else None


def load_sweep(path: Path) -> SweepSpec:
    """Read and check a sweep file.

    Raises: SweepFileError: the file is missing or is not TOML, or something in it is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark first
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
    """Name the sweep file whose name is nearest, or else the first few that exist."""
    folder = path if path.is_dir() else path.parent if path.parent.is_dir() else Path("sweeps")
    here = sorted(other for other in folder.glob("*.toml") if other.is_file())
    if near := difflib.get_close_matches(path.name, [other.name for other in here], n=1):
        return f'; did you mean "{folder / near[0]}"?'
    more = f" and {len(here) - NUM_FILES_NAMED} more" if len(here) > NUM_FILES_NAMED else ""
    return f"; there are {', '.join(map(str, here[:NUM_FILES_NAMED]))}{more}" if here else ""


def parse_sweep(document: dict[str, Any], path: Path | None = None) -> SweepSpec:
    """Check a sweep that has been read already. `path` appears in messages only. Raises: SweepFileError."""
    try:
        return SweepSpec.model_validate(document)
    except ValidationError as error:
        problems = dict.fromkeys(explain(details, SweepSpec) for details in error.errors())
        raise SweepFileError(path, list(problems)) from None
