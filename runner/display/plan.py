"""The plan of a sweep on the terminal: what would run, at which operating points, for how long and at what energy.

A `Plan` enters; a rich renderable leaves.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from runner.display.text.names import load_heading, short_load
from runner.display.text.quantities import format_duration, format_energy
from runner.results.plan import Plan, PlannedTrial
from runner.spec.load import LoadKey

_LEFT = "task"
"""The only column that is not a number."""
_GAP = "  "


def render_plan(plan: Plan) -> Group:
    """Draw a plan: a table for each model, two lines for each block in running order, then problems and totals."""
    blocks = [list(trials) for _, trials in groupby(plan.trials, key=lambda trial: trial.block_id)]
    headers = ("#", _LEFT, load_heading(trial.load for trial in plan.trials), "trials", "time", "energy")
    rows = [headers, *(_describe_block(number, trials) for number, trials in enumerate(blocks, start=1))]
    header, *lines = _align(rows)
    parts: list[RenderableType] = [Text(_describe_gpus(plan))]
    for model, group in groupby(zip(blocks, lines, strict=True), key=lambda block: block[0][0].model):
        planned = list(group)
        trials = [trial for block, _ in planned for trial in block]
        parts += ["", Text.assemble((model, "bold"), f": {_sum_up(trials)}"), Text(header, style="dim")]
        for block, line in planned:
            points = Text(_describe_points(block), style="dim")
            parts += [Text(line), Padding(points, (0, 0, 0, header.index(_LEFT)))]
    problems = dict.fromkeys(trial.problem for trial in plan.trials if trial.problem)
    parts += ["", *(Text(f"Cannot be set on this GPU: {problem}", style="yellow") for problem in problems)]
    parts += [Text(_describe_axes(plan)), Text(_describe_totals(plan))]
    return Group(*parts)


def _describe_block(number: int, trials: Sequence[PlannedTrial]) -> tuple[str, ...]:
    """Return the cells below the headers."""
    return (
        str(number),
        trials[0].task,
        short_load(trials[0].load),
        str(len(trials)),
        format_duration(sum(trial.estimated_duration_s for trial in trials)),
        format_energy(sum(trial.estimated_energy_j for trial in trials)),
    )


def _sum_up(trials: Sequence[PlannedTrial]) -> str:
    duration = format_duration(sum(trial.estimated_duration_s for trial in trials), whole_minutes=True)
    return f"{len(trials)} trials, {duration}, {format_energy(sum(trial.estimated_energy_j for trial in trials))}"


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines whose cells stand below each other, over the tables of all models; the first row is the headers."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if header == _LEFT else cell.rjust(width)
            for header, cell, width in zip(rows[0], row, widths, strict=True)
        )
        yield _GAP.join(cells)


def _describe_points(trials: Sequence[PlannedTrial]) -> str:
    """Name each operating point once, in the order of its first trial, with the number of its trials if several."""
    counts: dict[str, int] = {}
    for trial in trials:
        name = _name_point(trial)
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())


def _name_point(trial: PlannedTrial) -> str:
    if trial.problem:
        return "impossible"
    point = trial.operating_point
    most = "≤ " if point.sm_clock_is_ceiling else ""
    parts = [f"{most}{point.sm_clock_mhz}"] if point.sm_clock_mhz else []
    parts += [f"memory {point.mem_clock_mhz}"] if point.mem_clock_mhz else []
    parts += [f"{point.power_limit_w:g} W"] if point.power_limit_w else []
    return " / ".join(parts) or "default"


def _describe_gpus(plan: Plan) -> str:
    names = ", ".join(dict.fromkeys(plan.gpu_names))
    mode = "; clocks are read-only, so only the default clock runs" if plan.read_only else ""
    return (
        f"{plan.name}: {len(plan.gpu_names)} × {names}{mode}.\n"
        "The line below a block lists its operating points in order: the SM clock in MHz, or default."
    )


def _describe_axes(plan: Plan) -> str:
    """Say how many models, tasks, operating points and repeats are combined."""
    asked = [trial for trial in plan.trials if not trial.is_sentinel]
    points = {(trial.operating_point, trial.problem) for trial in asked}
    loads = {trial.load.key: short_load(trial.load) for trial in asked}
    counts = (
        (len({trial.model for trial in asked}), "model"),
        (len({trial.task for trial in asked}), "task"),
        (len(points), "operating point"),
        (len({trial.repeat for trial in asked}), "repeat"),
        (sum(trial.is_sentinel for trial in plan.trials), "sentinel"),
    )
    named = ", ".join(f"{number:,} {word}{'' if number == 1 else 's'}" for number, word in counts if number)
    heading = load_heading(trial.load for trial in asked)
    return f"{named}; {heading}: {', '.join(loads[key] for key in sorted(loads, key=_order_of_load))}."


def _order_of_load(key: LoadKey) -> tuple[bool, tuple[float, ...]]:
    """Sort closed loops by concurrency, then open loops by rate and burstiness."""
    if isinstance(key, int):
        return False, (float(key),)
    return True, tuple(float(part or 0.0) for part in key[1:])


def _describe_totals(plan: Plan) -> str:
    num_trials, num_finished = len(plan.trials), plan.num_finished
    done = (
        f", {num_finished} of them finished already. The other {num_trials - num_finished}"
        if num_finished
        else ". Together they"
    )
    return (
        f"{num_trials} trials{done} take about "
        f"{format_duration(plan.estimated_duration_s)} and {format_energy(plan.estimated_energy_j)}, loading included: "
        "an estimate by the physics model of an H200, good for planning time, not for conclusions."
    )
