"""Opening a vLLM engine: the engine arguments of a model, and the environment of the engine's processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runner.inference.engine import EngineError
from runner.inference.vllm.compat import (
    FrontEnd,
    engine_argument_names,
    is_on_cpu,
    open_front_end,
    require_core_process,
)
from runner.inference.vllm.paced.pace import Pace
from runner.inference.vllm.processes import CPU_ENVIRONMENT, ENVIRONMENT, PACED_ENVIRONMENT, default_environment
from runner.inference.vllm.shapes import find_shape_folder


@contextmanager
def engine_environment(pace: Pace | None) -> Iterator[None]:
    """Set the environment that vLLM reads when it is imported, for the time of a block that opens an engine.

    Raises: EngineError: the user's environment makes vLLM run the core in this process.
    """
    require_core_process()
    with default_environment(ENVIRONMENT, PACED_ENVIRONMENT if pace else {}):
        yield


def open_model(
    model: str, *, revision: str | None, engine_args: Mapping[str, object], seed: int, pace: Pace | None
) -> FrontEnd:
    """Open an engine with its core in a child process; see `VllmEngine` for the arguments.

    Raises: EngineError: there is no such shape, or a pace is given for a GPU. vLLM raises errors of many kinds.
    """
    on_cpu = is_on_cpu()
    arguments: dict[str, object] = {
        "model": model,
        "revision": revision,
        "tokenizer_revision": revision,
        "seed": seed,
        "enable_prefix_caching": False,
        "enforce_eager": on_cpu,
        "disable_log_stats": False,  # each request comes back with its times
        "enable_logging_iteration_details": True,
        "use_tqdm_on_load": False,
    }
    shape_folder = find_shape_folder(model)
    if shape_folder is not None:
        arguments |= {"model": str(shape_folder), "load_format": "dummy", "skip_tokenizer_init": True}
    if pace is not None:
        if not on_cpu:
            raise EngineError("a simulated GPU can pace vLLM on the CPU only; install the cpu extra")
        arguments |= pace.engine_args()
    known = engine_argument_names()
    arguments = {name: value for name, value in arguments.items() if name in known} | dict(engine_args)
    with default_environment(CPU_ENVIRONMENT if on_cpu else {}):
        return open_front_end(arguments)
