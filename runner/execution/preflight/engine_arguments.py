"""The check of a sweep's engine arguments against the installed vLLM, before anything is downloaded or loaded.

A sweep enters. One message for each wrong argument leaves.
"""

from collections.abc import Iterator

from runner.inference.vllm.engine_arguments import read_engine_arguments
from runner.spec.model import ModelSpec, show_value
from runner.spec.operating_point import DEFAULT
from runner.spec.problems import did_you_mean
from runner.spec.sweep import SweepSpec


def find_wrong_arguments(sweep: SweepSpec) -> Iterator[str]:
    """Yield what is wrong with each engine argument. Without vLLM nothing is known to be wrong."""
    known = read_engine_arguments()
    if known is None:
        return
    found: dict[str, None] = {}  # a name that is wrong counts once, however many values it has
    for index, model in enumerate(sweep.model):
        for field, name, value in _list_arguments(model):
            if problem := known.find_problem(name, value):
                shown = f'"{value}"' if isinstance(value, str) else show_value(value)
                place = field.partition("[")[0] if known.lacks(name) else f"{field} = {shown}"
                found[f"model[{index}].{place} {problem}"] = None
    yield from found


def list_doubtful(sweep: SweepSpec) -> list[str]:
    """Return the quantizations that vLLM itself does not have. They are not refused, since a plugin may add them."""
    known = read_engine_arguments()
    if known is None or not known.quantizations:
        return []
    return [
        f'model[{index}].{field} = "{value}" is no method of vLLM {known.version} itself, so '
        f"that only a plugin could add it{did_you_mean(str(value), map(str, known.quantizations))}"
        for index, model in enumerate(sweep.model)
        for field, name, value in _list_arguments(model)
        if name == "quantization" and value not in known.quantizations
    ]


def describe_unchecked(sweep: SweepSpec) -> str | None:
    """Return that engine arguments could not be checked; None where they are, or where there are none."""
    if read_engine_arguments() is not None or not any(model.engine or model.grid for model in sweep.model):
        return None
    return "engine arguments are not checked: vLLM is not installed here, or its source is not as it is known"


def _list_arguments(model: ModelSpec) -> Iterator[tuple[str, str, object]]:
    """Yield each engine argument of a model: its field in the sweep file, its name and its value."""
    for name, value in model.engine.items():
        yield f"engine.{name}", name, value
    for name, values in model.grid.items():
        for place, value in enumerate(values):
            if value != DEFAULT:
                yield f"grid.{name}[{place}]", name, value
