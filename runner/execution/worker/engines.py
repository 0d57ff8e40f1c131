"""The engine that a worker opens: vLLM, vLLM paced by a simulated GPU, the GPU model alone, or a server's model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.execution.preflight.model_access import locate
from runner.execution.worker.trial.edges import read_process_ids
from runner.hardware.gpu import Gpu
from runner.inference.engine import Engine
from runner.inference.server.engine import ServerEngine
from runner.inference.server.facts import AttachedServer
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
    """"vllm", "simulated" or "server"."""
    time_source: TimeSource
    gpu_model: str | None = None
    """The name of the GPU model; None on a real GPU."""
    gpu_state_dir: Path | None = None
    """The folder of the simulated GPU's state; None on a real GPU."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """The commit that each model of the hub is pinned to for the whole run, by label."""
    server: AttachedServer | None = None
    """The server that the run attaches to; None unless the engine is "server"."""
    is_interrupted: Callable[[], bool] = lambda: False
    """Asked while a server is waited for."""


def open_engine(model: ModelSpec, sweep: SweepSpec, setup: EngineSetup) -> Engine:
    """Open the engine for a model. Raises: EngineError: it did not load. ValueError: there is no such shape."""
    if setup.server is not None:
        return open_server_engine(model, sweep, setup.server, setup.is_interrupted)
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


def open_server_engine(
    model: ModelSpec, sweep: SweepSpec, server: AttachedServer, is_interrupted: Callable[[], bool]
) -> ServerEngine:
    """Connect to a model of a server, and wait for the server while it is away. Raises: EngineError."""
    max_model_len = model.engine.get("max_model_len")
    return ServerEngine(
        server.facts,
        model.id,
        revision=model.revision,
        max_model_len=max_model_len if isinstance(max_model_len, int) else None,
        scores=server.needs_scores,
        wait_s=sweep.limits.load_s,
        is_interrupted=is_interrupted,
        request_limit_s=sweep.limits.request_s,
    )


def find_server_processes(engine: ServerEngine, server: AttachedServer, gpu: Gpu) -> tuple[frozenset[int] | None, bool]:
    """Return the server's processes on a GPU, and whether the server may compute on it.

    In a container, the ids that the NVIDIA driver lists are not those of this host. Where the user named the GPU, all
    processes on it count as the server's then.

    Returns: None where the NVIDIA driver does not list processes.
    Raises: GpuLostError.
    """
    if gpu.info.simulated:
        return frozenset(), False
    listed = read_process_ids(gpu)
    if listed is None:
        return None, True
    own = listed & engine.process_ids
    found = listed if server.gpus_named and not own else own
    return found, bool(found)
