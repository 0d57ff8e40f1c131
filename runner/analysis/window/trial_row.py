"""One trial's row: a `Measurement` and its scores enter, a row of `tables.TRIALS` and the table of requests leave.

Each part of the row is made in a module of its own. They are merged here, once. Next: the run directory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from runner.analysis.energy.account import account_energy
from runner.analysis.energy.attribution import attribute_energy
from runner.analysis.energy.host import share_host_energy
from runner.analysis.energy.memory import estimate_memory_energy
from runner.analysis.window.energy_costs import divide_energy
from runner.analysis.window.evidence import find_evidence
from runner.analysis.window.flow import describe_flow
from runner.analysis.window.gpu_state import describe_gpu_state
from runner.analysis.window.phases.phase_regression import regress_phases
from runner.analysis.window.phases.window_phases import describe_phases
from runner.analysis.window.requests_table import build_requests_table
from runner.analysis.window.service import describe_service
from runner.analysis.window.steady_part import find_steady_part
from runner.analysis.window.times import describe_times
from runner.analysis.window.verdicts import Verdict, judge
from runner.analysis.window.work import count_work
from runner.results.measurement import Identity, Measurement, Placement
from runner.results.tables import TRIALS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TrialRow = dict[str, Any]
"""Columns of `tables.TRIALS` by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial went."""

    status: Literal["ok", "failed"]
    start_ns: int
    verdicts: list[Verdict]
    error: str | None = None
    unattributed_energy_j: float | None = None
    num_requests_left_out: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialQuality:
    """The quality columns of `tables.TRIALS`: the task's score of the completions, or the reason why there is none."""

    quality: float | None = None
    quality_metric: str | None = None
    quality_higher_is_better: bool | None = None
    quality_stderr: float | None = None
    quality_reason: str | None = None
    quality_chance: float | None = None
    output_agreement: float | None = None
    output_agreement_default: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysedTrial:
    """What is written of a trial that was measured, beside its power trace."""

    row: TrialRow
    requests: pl.DataFrame
    """[num_requests] rows of `tables.REQUESTS`."""


def analyse_trial(
    measurement: Measurement, quality: TrialQuality | None = None, per_sample: Mapping[str, float] | None = None
) -> AnalysedTrial:
    """Return the row and the requests of a trial that was measured.

    Args:
        quality: the task's scores; none unless given.
        per_sample: scores by sample_id.
    """
    identity = measurement.identity
    work, times = count_work(measurement), describe_times(measurement)
    account, gpu = account_energy(measurement), describe_gpu_state(measurement)
    energy_j = account.energy.energy_j
    attribution = attribute_energy(measurement, energy_j)
    flow, evidence = describe_flow(measurement, energy_j), find_evidence(measurement)
    outcome = Outcome(
        status="ok",
        start_ns=measurement.start_ns,
        verdicts=judge(identity, work=work, times=times, flow=flow, account=account, gpu=gpu, evidence=evidence),
        unattributed_energy_j=attribution.unattributed_j,
        num_requests_left_out=measurement.num_requests_left_out,
    )
    costs = divide_energy(
        energy_j,
        idle_power_w=measurement.idle_power_w,
        work=work,
        times=times,
        request_kind=identity.request_kind,
    )
    row = merge_parts(
        identity.columns(),
        measurement.placement.columns(),
        outcome,
        work,
        times,
        account.energy,
        costs,
        estimate_memory_energy(measurement),
        share_host_energy(measurement),
        measurement.meters.activity,
        describe_phases(measurement, work, account.energy),
        regress_phases(measurement, energy_j),
        find_steady_part(measurement),
        flow,
        describe_service(measurement, energy_j),
        gpu,
        quality or TrialQuality(),
    )
    return AnalysedTrial(row=row, requests=build_requests_table(measurement, per_sample or {}, attribution))


def build_failed_row(identity: Identity, placement: Placement, error: str, start_ns: int) -> TrialRow:
    """Return the row of a trial that came to nothing: what was asked for, where, and why it failed."""
    outcome = Outcome(status="failed", start_ns=start_ns, verdicts=[], error=error)
    return merge_parts(identity.columns(), placement.columns(), outcome)


def merge_parts(*parts: "DataclassInstance | Mapping[str, object]") -> TrialRow:
    """Put a row together.

    Args:
        parts: records whose fields are columns, or columns by name.
    Raises: AssertionError: two parts hold the same column, or one holds a column that `tables.TRIALS` lacks.
    """
    row: TrialRow = {}
    for part in parts:
        columns = part if isinstance(part, Mapping) else {f.name: getattr(part, f.name) for f in fields(part)}
        if repeated := row.keys() & columns.keys():
            raise AssertionError(f"columns that two parts of a row hold: {sorted(repeated)}")
        row |= columns
    if unknown := row.keys() - TRIALS.keys():
        raise AssertionError(f"columns that no schema has: {sorted(unknown)}")
    return row
