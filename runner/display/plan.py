"""The plan of a sweep on the terminal: what would run, at which clocks, for how long and at what energy."""

from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.display.quantities import format_duration, format_energy
from runner.results.plan import Plan, PlannedTrial


def render_plan(plan: Plan) -> Group:
    """Draw a plan: a row a block, in the order in which they run, then what is wrong, then the totals."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header, justify in (("#", "right"), ("model", "left"), ("task", "left"), ("in flight", "right")):
        table.add_column(header, justify=justify)  # type: ignore[arg-type]
    table.add_column("operating points, in order", overflow="fold", ratio=1)
    for header in ("trials", "time", "energy"):
        table.add_column(header, justify="right", no_wrap=True)
    for number, (_, group) in enumerate(groupby(plan.trials, key=lambda trial: trial.block_id), start=1):
        trials = list(group)
        table.add_row(
            str(number),
            trials[0].model,
            trials[0].task,
            str(trials[0].concurrency),
            _describe_points(trials),
            str(len(trials)),
            format_duration(sum(trial.estimated_duration_s for trial in trials)),
            format_energy(sum(trial.estimated_energy_j for trial in trials)),
        )
    parts: list[RenderableType] = [Text(_describe_gpus(plan)), table]
    problems = dict.fromkeys(trial.problem for trial in plan.trials if trial.problem)
    parts += [Text(f"Cannot be set on this board: {problem}", style="yellow") for problem in problems]
    parts += [Text(_describe_axes(plan)), Text(_describe_totals(plan))]
    return Group(*parts)


def _describe_points(trials: list[PlannedTrial]) -> str:
    """Each operating point once, in the order of its first trial, with how often it runs where that is not once."""
    counts: dict[str, int] = {}
    for trial in trials:
        name = _name_point(trial)
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())


def _name_point(trial: PlannedTrial) -> str:
    if trial.problem:
        return "impossible"
    parts = [f"{trial.sm_clock_mhz}"] if trial.sm_clock_mhz else []
    parts += [f"memory {trial.mem_clock_mhz}"] if trial.mem_clock_mhz else []
    parts += [f"{trial.power_limit_w:g} W"] if trial.power_limit_w else []
    return " / ".join(parts) or "default"


def _describe_gpus(plan: Plan) -> str:
    names = ", ".join(dict.fromkeys(plan.gpu_names))
    mode = "; clocks are read-only, so only the default operating point runs" if plan.read_only else ""
    return f"{plan.name}: {len(plan.gpu_names)} × {names}{mode}. SM clocks in MHz; default is the board's own."


def _describe_axes(plan: Plan) -> str:
    """How many of each thing are combined."""
    asked = [trial for trial in plan.trials if not trial.is_sentinel]
    points = {(trial.sm_clock_mhz, trial.mem_clock_mhz, trial.power_limit_w, trial.problem) for trial in asked}
    in_flight = ", ".join(str(number) for number in sorted({trial.concurrency for trial in asked}))
    counts = (
        (len({trial.model for trial in asked}), "model"),
        (len({trial.task for trial in asked}), "task"),
        (len(points), "operating point"),
        (len({trial.repeat for trial in asked}), "repeat"),
        (sum(trial.is_sentinel for trial in plan.trials), "sentinel"),
    )
    named = ", ".join(f"{number:,} {word}{'' if number == 1 else 's'}" for number, word in counts if number)
    return f"{named}; in flight: {in_flight}."


def _describe_totals(plan: Plan) -> str:
    num_left = len(plan.trials) - plan.num_finished
    done = f", {plan.num_finished} of them finished already" if plan.num_finished else ""
    return (
        f"{len(plan.trials)} trials{done}. What is left ({num_left}) takes about "
        f"{format_duration(plan.estimated_duration_s)} and {format_energy(plan.estimated_energy_j)}, loading included: "
        "an estimate by the board model of an H200, good for minutes or hours, not for conclusions."
    )
