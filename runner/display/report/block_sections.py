"""The sections about blocks: all of them side by side at the default clock, and every operating point of each.

A `Study` enters; `Section`s leave. Next: `build.py`.
"""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from runner.analysis.advice.limits import NO_LIMITS
from runner.analysis.run.operating_points import BLOCK
from runner.analysis.study import Study
from runner.display.report.columns import (
    build_columns,
    cost_columns,
    default_columns,
    default_phase_columns,
    phase_columns,
)
from runner.display.report.document import Details, Mark, Section, Sentences, Table
from runner.display.text.advice import describe_outputs, describe_recommendation, is_default_only
from runner.display.text.costs import name_costs
from runner.display.text.energy_parts import describe_energy_parts
from runner.display.text.findings import describe_block
from runner.display.text.names import Row, name_block, short_gpu_names
from runner.display.text.notes import (
    choose_phased,
    describe_defaults,
    describe_marks,
    describe_phases,
    warn_of_guessing,
)
from runner.display.text.simulated import SIMULATED_NOTICE

BlockParts = tuple[Sentences | Table, ...]


def default_section(study: Study) -> Section | None:
    """Return all blocks side by side at the default clock; None for a single block.

    Where nothing else was measured, the section has the notes that the tables of blocks would have had.
    """
    points = study.points.filter("is_default").to_dicts()
    if len(points) < 2:
        return None
    gpus, is_alone = _name_gpus(study), is_default_only(study)
    parts: BlockParts = (Table(columns=tuple(default_columns(points, gpus)), is_overview=not is_alone),)
    if is_alone:
        parts += _quiet(describe_defaults(points))
        if phased := choose_phased(points):
            parts += (Table(columns=tuple(default_phase_columns(phased, gpus))), *_quiet(describe_phases(phased)))
    return Section(title="At the default clock", notice=_notice(points), parts=parts)


def operating_points_section(study: Study) -> Section | None:
    """Return every operating point of each block; None where the section at the default clock has them all."""
    blocks = [block.to_dicts() for block in study.points.partition_by(*BLOCK, maintain_order=True)]
    if not blocks or (is_default_only(study) and len(blocks) > 1):
        return None
    gpus = _name_gpus(study)
    details = tuple(
        Details(
            title=name_block(points[0]),
            place=_place(points, gpus),
            notice=_notice(points),
            parts=_describe_points(points) + _describe_costs(study, points[0]) + _describe_advice(study, points[0]),
        )
        for points in blocks
    )
    return Section(title="Every operating point", parts=details)


def _describe_points(points: Sequence[Row]) -> BlockParts:
    """Return the tables of a block with their notes, and its sentence."""
    marks: tuple[Mark, ...] = tuple(
        "good" if point["is_least_energy"] else "" if point["is_sound"] else "doubt" for point in points
    )
    parts: BlockParts = (Table(columns=tuple(build_columns(points)), row_marks=marks), *_quiet(describe_marks(points)))
    if warning := warn_of_guessing(points):
        parts += (Sentences(texts=(warning,), emphasis="warning"),)
    if phased := choose_phased(points):
        parts += (Table(columns=tuple(phase_columns(phased))), *_quiet(describe_phases(phased)))
    return (*parts, Sentences(texts=(describe_block(points), *describe_energy_parts(points))))


def _describe_costs(study: Study, block: Row) -> BlockParts:
    """Return the table of money and carbon; nothing without a tariff, or where no energy is known."""
    costs = study.costs.filter(*_is_of(block))
    if not costs["kwh_per_million_tokens"].count():
        return ()
    columns = tuple(cost_columns(costs.to_dicts(), study.tariff))
    return (Table(columns=columns), *_quiet([name_costs(study.tariff)]))


def _describe_advice(study: Study, block: Row) -> BlockParts:
    """Return what to set within the limits, and whether the outputs depend on the clock."""
    parts: BlockParts = ()
    for row in study.recommendations.filter(*_is_of(block), goal="energy").to_dicts():
        if study.limits != NO_LIMITS:
            parts += (Sentences(texts=(f"Within the limits: {describe_recommendation(row)}",)),)
        if outputs := describe_outputs(row):
            parts += _quiet([f"outputs at other clocks: {outputs}"])
    return parts


def _is_of(block: Row) -> list[pl.Expr]:
    """Return what holds for rows of a block."""
    return [pl.col(name).eq_missing(block[name]) for name in BLOCK]


def _quiet(notes: Iterable[str]) -> tuple[Sentences, ...]:
    texts = tuple(notes)
    return (Sentences(texts=texts, emphasis="quiet"),) if texts else ()


def _notice(points: Sequence[Row]) -> str:
    return SIMULATED_NOTICE if points[0]["simulated"] else ""


def _place(points: Sequence[Row], gpus: Mapping[str, str]) -> str:
    """Return the GPUs of a block, where the run has several."""
    names = dict.fromkeys(gpus[uuid] for point in points for uuid in point["gpu_uuids"])
    return ", ".join(names) if len(gpus) > 1 else ""


def _name_gpus(study: Study) -> dict[str, str]:
    return short_gpu_names(study.points["gpu_uuids"].explode(empty_as_null=True).drop_nulls().unique().to_list())
