"""What stands in the way of a run, as far as a plan can tell.

A sweep, its blocks, the GPU groups and the hub's answers enter. The first error that a run would raise leaves, and
warnings about what could not be checked.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.engine_arguments import describe_unchecked, list_doubtful
from runner.execution.preflight.feasibility import require_settable, require_tokenizers
from runner.execution.preflight.model_access import ModelAccess, ModelAccessError, require_access
from runner.execution.preflight.weights import list_too_large, require_fit
from runner.hardware.gpu import GpuError
from runner.inference.engine import EngineError
from runner.inference.vllm.compat import require_core_process
from runner.spec.model import ModelSpec
from runner.spec.sweep import SweepSpec
from runner.spec.trial import Block

_NOT_MODELLED = (
    "dtype",
    "quantization",
    "quantization_config",
    "kv_cache_dtype",
    "enforce_eager",
    "compilation_config",
    "speculative_config",
    "attention_backend",
)
"""Engine arguments that change what a step costs on a real GPU, and not on a simulated one."""


def require_engine(sweep: SweepSpec, path: Path | None) -> None:
    """Refuse what vLLM could not open for any trial.

    Raises: SweepFileError: a model lacks a tokenizer. EngineError: the environment keeps the engine in this process.
    """
    require_tokenizers(sweep, path)
    require_core_process()


def require_gpus(
    sweep: SweepSpec, blocks: Sequence[Block], groups: Sequence[GpuGroup], *, opens_engine: bool = True
) -> None:
    """Refuse what the GPUs cannot do.

    Args:
        opens_engine: False for a server that has its models loaded already.
    Raises: ModelTooLargeError, and the errors of `require_settable`.
    """
    require_settable(blocks, groups)
    if opens_engine:
        require_fit(sweep, [group.info for group in groups])


def find_problem(
    sweep: SweepSpec,
    path: Path | None,
    blocks: Sequence[Block],
    groups: Sequence[GpuGroup],
    models: Sequence[ModelAccess],
    *,
    opens_engine: bool = True,
) -> Exception | None:
    """Return the first reason why a run with vLLM would refuse the sweep on these GPUs; None where none is known.

    Args:
        models: the hub's answers. A hub that does not answer is a warning here.
        opens_engine: False for a server that has its models loaded already.
    """
    try:
        if opens_engine:
            require_engine(sweep, path)
        require_gpus(sweep, blocks, groups, opens_engine=opens_engine)
        require_access([model for model in models if model.problem != "unreachable"])
    except (ValueError, EngineError, GpuError, ModelAccessError) as error:
        return error
    return None


def list_warnings(
    sweep: SweepSpec, groups: Sequence[GpuGroup], models: Sequence[ModelAccess], *, opens_engine: bool = True
) -> tuple[str, ...]:
    """Return what could not be asked or checked from here, and what real GPUs would refuse of a simulated run."""
    if not opens_engine:
        return ()
    return tuple(dict.fromkeys(_find_warnings(sweep, groups, models)))


def _find_warnings(sweep: SweepSpec, groups: Sequence[GpuGroup], models: Sequence[ModelAccess]) -> Iterator[str]:
    yield from (model.message for model in models if model.problem == "unreachable")
    if unchecked := describe_unchecked(sweep):
        yield unchecked
    yield from list_doubtful(sweep)
    yield from list_too_large(sweep, [group.info for group in groups])
    if any(group.info.simulated for group in groups):
        yield from _find_not_modelled(sweep)


def _find_not_modelled(sweep: SweepSpec) -> Iterator[str]:
    """Yield the models whose variants cost the same on a simulated GPU, whatever they cost on a real one."""
    variants: dict[tuple[str, str | None], list[ModelSpec]] = {}
    for model in sweep.models:
        variants.setdefault((model.id, model.twin), []).append(model)
    for (model_id, _), models in variants.items():
        if names := [name for name in _NOT_MODELLED if len({str(model.engine.get(name)) for model in models}) > 1]:
            yield (
                f'models with id "{model_id}" differ in {", ".join(names)}, which a simulated GPU knows nothing of: it '
                "computes the same seconds and joules for them. Give each a modelled shape of its own (`twin`)"
            )
