"""The engine that a worker opens: vLLM, vLLM paced by a simulated GPU, or the GPU model alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.execution.preflight.model_access import locate
from runner.inference.engine import Engine
from runner.inference.simulated.engine import SimulatedEngine
from runner.inference.vllm.engine import VllmEngine
from runner.inference.vllm.paced.pace import Pace
from runner.physics.gpu_model import load_gpu_model
from runner.physics.gpu_state import GpuState
from runner.physics.shape import find_modelled_shape, get_shape
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec
from runner.timebase import TimeSource, VirtualTime

SIMULATED_ARGUMENTS = ("max_model_len", "max_num_seqs", "max_num_batched_tokens")
"""Engine arguments of vLLM that the simulated engine follows too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSetup:
    """Which engine a worker opens, and the simulated GPU beneath it."""

    name: str
    """"vllm" or "simulated"."""
    time_source: TimeSource
    gpu_model: str | None = None
    """The name of the GPU model; None on a real GPU."""
    gpu_state_dir: Path | None = None
    """The folder of the simulated GPU's state; None on a real GPU."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """The commit that each model of the hub is pinned to for the whole run, by label."""


def open_engine(model: ModelSpec, sweep: SweepSpec, setup: EngineSetup) -> Engine:
    """Open the engine for a model. Raises: EngineError: it did not load. ValueError: there is no such shape."""
    shape = find_modelled_shape(model.id, model.twin)
    if setup.name == "simulated":
        if setup.gpu_model is None or setup.gpu_state_dir is None or not isinstance(setup.time_source, VirtualTime):
            raise AssertionError("the simulated engine needs a simulated GPU and virtual time")
        return SimulatedEngine(
            shape=get_shape(shape),
            gpu_model=load_gpu_model(setup.gpu_model),
            state=GpuState(setup.gpu_state_dir),
            time_source=setup.time_source,
            **{name: model.engine[name] for name in SIMULATED_ARGUMENTS if name in model.engine},
        )
    pace = None
    if setup.gpu_model is not None and setup.gpu_state_dir is not None:
        pace = Pace(gpu_model=setup.gpu_model, modelled_shape=shape, state_dir=setup.gpu_state_dir)
    return VllmEngine(
        locate(model.id, setup.commits.get(model.label, model.revision)),
        engine_args=model.engine,
        seed=sweep.seed,
        load_timeout_s=sweep.limits.load_s,
        request_limit_s=sweep.limits.request_s,
        pace=pace,
    )
