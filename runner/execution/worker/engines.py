"""Which engine a worker opens: real vLLM, real vLLM paced by a simulated GPU, or the GPU model alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.execution.preflight.model_access import locate
from runner.inference.engine import Engine
from runner.inference.paced.pace import Pace
from runner.inference.simulated.engine import SimulatedEngine
from runner.inference.vllm.engine import VllmEngine
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import get_shape, shape_names
from runner.spec.sweep import ModelSpec, SweepSpec
from runner.timebase import TimeSource, VirtualTime

DEFAULT_SHAPE = "qwen2.5-32b"
"""The shape whose seconds and joules a simulated GPU computes where the sweep file names none."""

SIMULATED_ARGUMENTS = ("max_model_len", "max_num_seqs", "max_num_batched_tokens")
"""vLLM's engine arguments that the simulated engine obeys too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSetup:
    """Which engine a worker opens, and the simulated GPU under it if there is one."""

    name: str
    """"vllm" or "simulated"."""
    time_source: TimeSource
    gpu_model: str | None = None
    """The GPU model's name; None on a real GPU."""
    gpu_state_dir: Path | None = None
    """The simulated GPU's state."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """What each model of the hub is pinned to for the whole run, by label."""


def find_modelled_shape(model: ModelSpec) -> str:
    """Return the shape whose steps stand for a model's: the one it names, else one of its own name, else the usual."""
    own_name = model.id.rpartition("/")[2].lower()
    return model.twin or (own_name if own_name in shape_names() else DEFAULT_SHAPE)


def open_engine(model: ModelSpec, sweep: SweepSpec, setup: EngineSetup) -> Engine:
    """Open the engine for a model. Raises: EngineError: it did not come up; ValueError: no such twin."""
    twin = find_modelled_shape(model)
    if setup.name == "simulated":
        if setup.gpu_model is None or setup.gpu_state_dir is None or not isinstance(setup.time_source, VirtualTime):
            raise AssertionError("the simulated engine needs a simulated GPU and virtual time")
        return SimulatedEngine(
            shape=get_shape(twin),
            gpu_model=load_gpu_model(setup.gpu_model),
            state=GpuState(setup.gpu_state_dir),
            time_source=setup.time_source,
            **{name: model.engine[name] for name in SIMULATED_ARGUMENTS if name in model.engine},
        )
    pace = None
    if setup.gpu_model is not None and setup.gpu_state_dir is not None:
        pace = Pace(gpu_model=setup.gpu_model, twin=twin, state_dir=setup.gpu_state_dir)
    return VllmEngine(
        locate(model.id, setup.commits.get(model.label, model.revision)),
        engine_args=model.engine,
        seed=sweep.seed,
        load_timeout_s=sweep.limits.load_s,
        request_limit_s=sweep.limits.request_s,
        pace=pace,
    )
