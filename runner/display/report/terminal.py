"""The report on the terminal: a table a block, what it says in a sentence, and what went wrong.

A `Study` and the manifest enter, a rich renderable leaves. The arithmetic is `analysis`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from runner.analysis.advice.limits import NO_LIMITS
from runner.analysis.run.operating_points import BLOCK
from runner.analysis.study import Study
from runner.analysis.window.verdicts import VERDICTS
from runner.display.live.dashboard import SIMULATED_MEANING, SIMULATED_NOTICE
from runner.display.report.columns import (
    build_columns,
    default_columns,
    default_phase_columns,
    draw_table,
    fit_columns,
    phase_columns,
)
from runner.display.text.advice import (
    ROUTING_MEANING,
    describe_advice,
    describe_concurrency,
    describe_options,
    describe_outputs,
    describe_recommendation,
    describe_route,
    is_default_only,
)
from runner.display.text.findings import (
    ON_EQUAL_SAMPLES,
    Point,
    describe_block,
    describe_common_quality,
    describe_models,
    name_block,
)
from runner.display.text.input_costs import render_correlations
from runner.display.text.notes import (
    choose_phased,
    describe_defaults,
    describe_gaps,
    describe_marks,
    describe_phases,
    one_line,
    warn_of_guessing,
)
from runner.display.text.quantities import format_energy

_GPUS_NOTICE = (
    "Two GPUs of one kind differ by about 5 % in the energy that they report: "
    "between rows of different GPUs, less than that says nothing."
)


def render_report(study: Study, manifest: Mapping[str, Any], width: int) -> Group:
    """Draw the report for a terminal `width` cells wide; numbers are never cut, columns are left out instead.

    Args:
        study: what the run says.
        manifest: manifest.json; its sweep's name is shown.
        width: cells, >= 40.
    """
    if study.trials.is_empty():
        return Group(Text("No trial has finished yet."))
    parts: list[RenderableType] = [*_overview(study.trials, manifest)]
    parts += _ruled("recommendation", describe_advice(study))
    parts += [Text(options, style="dim")] if (options := describe_options(study)) else []
    left_out: dict[str, None] = {}
    gpus = name_gpus(study)
    if len(defaults := study.points.filter("is_default").to_dicts()) > 1:
        columns, dropped = fit_columns(default_columns(defaults, gpus), width)
        notice = f" · {SIMULATED_NOTICE}" if defaults[0]["simulated"] else ""
        parts += ["", Rule(Text(f"at the default clock{notice}"), align="left", style="dim"), draw_table(columns)]
        if is_default_only(study):  # otherwise the blocks' own tables have the rest
            left_out |= dict.fromkeys(dropped)
            parts += _dim(describe_defaults(defaults))
            if phased := choose_phased(defaults):
                columns, dropped = fit_columns(default_phase_columns(phased, gpus), width)
                left_out |= dict.fromkeys(dropped)
                parts += ["", draw_table(columns), *_dim(describe_phases(phased))]
    for points in tabled_blocks(study):
        columns, dropped = fit_columns(build_columns(points), width)
        left_out |= dict.fromkeys(dropped)
        parts += ["", _title(points, gpus), draw_table(columns, list(map(_style, points))), *_notes(points)]
        parts += [*_phases(points, width), Text(describe_block(points)), *_advice(study, points[0])]
    parts += _ruled(
        f"models, {'at the default clock' if is_default_only(study) else 'each at its least energy'}",
        map(describe_models, study.models.to_dicts()),
    )
    parts += _ruled(
        f"quality of models, {ON_EQUAL_SAMPLES}", map(describe_common_quality, study.common_quality.to_dicts())
    )
    parts += _ruled("requests in flight, each at its best", map(describe_concurrency, study.concurrencies.to_dicts()))
    if study.routes.height:
        parts += _ruled("a router between models", [*map(describe_route, study.routes.to_dicts()), ROUTING_MEANING])
    parts += render_correlations(study.correlations, width, simulated=study.trials["simulated"].any())
    if left_out:
        where = "A wider terminal shows them, and sweep report --csv or --json writes them."
        parts += ["", Text(f"Left out for lack of width: {', '.join(left_out)}. {where}", style="dim")]
    parts += _dim(describe_gaps(study))
    parts += _problems(study)
    return Group(*parts)


def name_run(manifest: Mapping[str, Any]) -> str:
    """Return the name of a run's sweep."""
    name: str = manifest.get("sweep", {}).get("name", "sweep")
    return name


def describe_counts(trials: pl.DataFrame) -> str:
    """Say how many trials there are, how many of them are sound, and how much energy they measured."""
    num_failed = trials.filter(pl.col("status") == "failed").height
    num_verdicts = trials.filter(pl.col("status") == "ok", pl.col("verdicts").list.len() > 0).height
    counts = [f"{trials.height:,} trials", f"{trials.height - num_failed - num_verdicts:,} sound"]
    counts += [f"{num_verdicts:,} with verdicts"] if num_verdicts else []
    counts += [f"{num_failed:,} failed"] if num_failed else []
    energy_j = trials["energy_j"].drop_nulls().to_list()
    return ", ".join([*counts, f"{format_energy(sum(energy_j))} measured"] if energy_j else counts)


def describe_import(manifest: Mapping[str, Any]) -> str:
    """Say where an imported table comes from, and what it lacks."""
    imported = manifest["imported"]
    default = " and ".join(imported["stands_for_default"])
    stand_in = f" It names no default clock; its highest clocks ({default}) stand for it." if default else ""
    return f"Imported from {imported['file']}: measured elsewhere, and not checked by a power trace.{stand_in}"


def describe_gpus(trials: pl.DataFrame) -> list[str]:
    """Say what was measured on, and what follows where that is several GPUs."""
    gpus = trials["gpu_uuids"].explode(empty_as_null=True).drop_nulls().n_unique()
    names = ", ".join(sorted(trials["gpu_name"].drop_nulls().unique())) or "unknown GPU"
    return [f"{names}, {gpus} GPUs", _GPUS_NOTICE] if gpus > 1 else [names]


def _overview(trials: pl.DataFrame, manifest: Mapping[str, Any]) -> Iterator[Text]:
    names, *notices = describe_gpus(trials)
    yield Text.assemble((name_run(manifest), "bold"), f": {describe_counts(trials)}")
    yield Text(names, style="dim")
    if trials["simulated"].any():
        yield Text(f"{SIMULATED_NOTICE}: {SIMULATED_MEANING}.", style="bold yellow")
    if "imported" in manifest:
        yield Text(describe_import(manifest), style="bold yellow")
    yield from _dim(notices)


def _ruled(title: str, sentences: Iterable[str]) -> list[RenderableType]:
    """A section of sentences; nothing where there is none."""
    texts = [Text(sentence) for sentence in sentences]
    return ["", Rule(Text(title), align="left", style="dim"), *texts] if texts else []


def _advice(study: Study, block: Point) -> Iterator[Text]:
    """What limits change about a block's sentence, and whether its outputs depend on the clock."""
    for row in study.recommendations.filter(pl.col(name).eq_missing(block[name]) for name in BLOCK).to_dicts():
        if row["goal"] == "energy" and study.limits != NO_LIMITS:
            yield Text(f"Within the limits: {describe_recommendation(row)}")
        if row["goal"] == "energy" and (outputs := describe_outputs(row)):
            yield Text(f"outputs at other clocks: {outputs}", style="dim")


def tabled_blocks(study: Study) -> list[list[dict[str, Any]]]:
    """Return the points of each block with a table of its own: none where the default clock's table says it all."""
    blocks = [block.to_dicts() for block in study.points.partition_by(*BLOCK, maintain_order=True)]
    return [] if is_default_only(study) and len(blocks) > 1 else blocks


def name_of_gpus(points: Sequence[Point], gpus: Mapping[str, str]) -> str:
    """Name the GPUs of a block, where the run has several."""
    names = dict.fromkeys(gpus[uuid] for point in points for uuid in point["gpu_uuids"])
    return f" · {', '.join(names)}" if len(gpus) > 1 else ""


def _title(points: Sequence[Point], gpus: Mapping[str, str]) -> Text:
    title = Text(name_block(points[0]), style="bold").append(name_of_gpus(points, gpus), style="dim")
    return title.append(f" · {SIMULATED_NOTICE}", style="yellow") if points[0]["simulated"] else title


def name_gpus(study: Study) -> dict[str, str]:
    """Return as many of each UUID's groups as tell a run's GPUs apart, two at least: "GPU-1a2b3c4d"."""
    uuids = study.points["gpu_uuids"].explode(empty_as_null=True).drop_nulls().unique().to_list()
    for num_groups in range(2, 7):
        names = {uuid: "-".join(uuid.split("-")[:num_groups]) for uuid in uuids}
        if len(set(names.values())) == len(uuids):
            return names
    return {uuid: uuid for uuid in uuids}


def _problems(study: Study) -> Iterator[RenderableType]:
    failures, verdicts = study.failures, study.verdicts
    if verdicts.height:
        meanings = {code: VERDICTS.get(code, "a code that this version does not know") for code in verdicts["verdict"]}
        yield from ("", Rule(Text("verdicts"), align="left", style="dim"))
        yield _counted([(num_trials, f"{code}: {meanings[code]}") for code, num_trials in verdicts.iter_rows()])
    if failures.height:
        yield from ("", Rule(Text("failures"), align="left", style="dim"))
        yield _counted(
            [(num_trials, one_line(error or "no reason recorded")) for error, num_trials in failures.iter_rows()]
        )


def _counted(lines: Sequence[tuple[int, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for num_trials, text in lines:
        grid.add_row(f"{num_trials:,} trial{'s' if num_trials != 1 else ''}", Text(text))
    return grid


def _style(point: Point) -> str:
    return "bold green" if point["is_least_energy"] else "" if point["is_sound"] else "yellow"


def _notes(points: Sequence[Point]) -> Iterator[Text]:
    yield from _dim(describe_marks(points))
    if warning := warn_of_guessing(points):
        yield Text(warning, style="yellow")


def _phases(points: Sequence[Point], width: int) -> Iterator[RenderableType]:
    """Prefill and decoding apart, where they were measured."""
    if phased := choose_phased(points):
        yield draw_table(fit_columns(phase_columns(phased), width)[0])
        yield from _dim(describe_phases(phased))


def _dim(notes: Iterable[str]) -> Iterator[Text]:
    return (Text(note, style="dim") for note in notes)
