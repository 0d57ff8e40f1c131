"""Prefill and decode by trials of three output lengths: rows of `tables.TRIALS` enter and leave, completed.

A trial with `phases = "output_lengths"` has two paired trials in its block, at the same operating point and repeat,
with the same prompts. With one output token a request is prefill alone. What the full length takes beyond that is
decoding alone. Half of the length lies between the two and shows whether they add up.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import hypot
from typing import Any, get_args

import polars as pl

from runner.analysis.run.operating_points import POINT
from runner.analysis.window.phases.phase_energy import Phases, reach_over, share_energy
from runner.analysis.window.work import Work, read_work
from runner.results.tables import TRIALS
from runner.spec.request import PhaseRole

Row = dict[str, Any]

MAX_CLOCK_GAP = 0.10
"""Trials whose clocks lie further apart ran at different operating points, and their joules are not compared."""
CLOCK_ELASTICITY = 1.2
"""By how many percent a token's energy changes at most for 1 % of the SM clock, upwards or downwards.

At a power cap only the time changes: 1. Elsewhere the GPU model of an H200 gives −0.4 to +1.1 over all its clocks.
"""
_COLUMNS = tuple(column.name for column in fields(Phases))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """What phases take from the row of one sound trial."""

    work: Work
    energy_j: float
    uncertainty_j: float | None
    clock_mhz: float | None
    """The mean SM clock of the window."""
    prefill_clock_mhz: float | None
    """The mean SM clock of prefill; None where the engine does not tell its steps, or no reading fell into prefill."""

    @property
    def energy_per_request_j(self) -> float:
        return self.energy_j / self.work.num_requests

    @property
    def uncertainty_per_request_j(self) -> float:
        return (self.uncertainty_j or 0.0) / self.work.num_requests

    @property
    def output_tokens_per_request(self) -> float:
        return self.work.num_output_tokens / self.work.num_requests


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """A trial of full length and its two paired trials."""

    trial_id: str
    whole: _Measured
    half: _Measured
    one: _Measured


def complete_phases(trials: pl.DataFrame) -> pl.DataFrame:
    """Fill the phase columns of the trials that have paired trials. Those of other trials stay as they are.

    Each trial has the joules per token of its own repeat. The interval is that of the operating point's mean over its
    sound repeats, paired, and holds what the sensor cannot see (`energy_uncertainty_j`), which repeats do not show.

    Args:
        trials: [num_trials] rows of `tables.TRIALS`.
    Returns: [num_trials] rows of the same columns, in the same order.
    """
    blocks = trials.filter(pl.col("phase_role").is_not_null())["block_id"].unique()
    rows = trials.filter(pl.col("block_id").is_in(blocks.implode())).to_dicts()
    found: dict[str, Phases] = {}
    for point in _group(rows, ("block_id", *POINT)):
        found |= _complete_point(point)
    if not found:
        return trials
    schema = {name: TRIALS[name] for name in ("trial_id", *_COLUMNS)}
    changes = [{"trial_id": trial_id} | asdict(phases) for trial_id, phases in found.items()]
    return trials.update(pl.DataFrame(changes, schema=schema), on="trial_id", how="left", include_nulls=True)


def _complete_point(rows: Sequence[Row]) -> dict[str, Phases]:
    """Return the phases of the trials at one operating point of one block, by trial_id.

    Args:
        rows: its trials, their paired trials, and sentinels at the default clock.
    """
    found: dict[str, Phases] = {}
    comparable: list[_Group] = []
    for whole in rows:
        if whole["phase_role"] is not None or whole["status"] != "ok":
            continue
        group = _find_group(whole, rows)
        if isinstance(group, str):
            found[whole["trial_id"]] = Phases(phase_reason=group)
            continue
        reason = _explain_clocks(group)
        found[group.trial_id] = replace(_split_energy(group), phase_reason=reason)
        if reason is None:
            comparable.append(group)
    return found | dict(_add_intervals({group: found[group.trial_id] for group in comparable}))


def _find_group(whole: Row, rows: Sequence[Row]) -> _Group | str:
    """Return a trial with its paired trials, or the reason why it has no phases."""
    if whole["is_sentinel"]:
        return "a sentinel has no paired trials"
    if not _is_sound(whole):
        return f"the trial itself is not sound: {', '.join(whole['verdicts']) or 'its energy is unknown'}"
    beside = [row for row in rows if row["repeat"] == whole["repeat"] and not row["is_sentinel"]]
    paired_trials = {role: _find_sound(beside, role) for role in get_args(PhaseRole)}
    one, half = paired_trials["one_token"], paired_trials["half_length"]
    if one is None or half is None:
        missing = [role for role, row in paired_trials.items() if row is None]
        return f"there is no sound paired trial {' and '.join(missing)} at this operating point and repeat"
    measured = {"whole": _read_measured(whole), "half": _read_measured(half), "one": _read_measured(one)}
    return _Group(trial_id=whole["trial_id"], **measured)


def _find_sound(rows: Iterable[Row], role: PhaseRole) -> Row | None:
    """Return the paired trial without a verdict, of two attempts the later one."""
    sound = [row for row in rows if row["phase_role"] == role and _is_sound(row)]
    return max(sound, key=lambda row: row["attempt"] or 1, default=None)


def _is_sound(row: Row) -> bool:
    return row["status"] == "ok" and not row["verdicts"] and row["energy_j"] is not None


def _read_measured(row: Row) -> _Measured:
    return _Measured(
        work=read_work(row),
        energy_j=row["energy_j"],
        uncertainty_j=row["energy_uncertainty_j"],
        clock_mhz=row["sm_clock_mhz"],
        prefill_clock_mhz=row["prefill_sm_clock_mhz"],
    )


def _split_energy(group: _Group) -> Phases:
    """Return the phases of the trial of full length, without an interval."""
    prefill_j, decode_j = _prefill_j(group), _decode_j(group.one, group.whole)
    whole, half = (
        share_energy(
            measured.energy_j, measured.work, joules_per_prefill_token=prefill_j, joules_per_decode_token=decode_j
        )
        for measured in (group.whole, group.half)
    )
    return Phases(
        phase_method="output_lengths",
        prefill_energy_j=whole.prefill_j,
        decode_energy_j=whole.decode_j,
        joules_per_prefill_token=prefill_j,
        joules_per_decode_token=decode_j,
        # Both values were taken from the trial of full length, so that it has no residual. The half-length one has.
        phase_residual_fraction=half.residual_fraction,
    )


def _prefill_j(group: _Group) -> float:
    """Return joules per prefill token: nothing else is computed where one token is generated."""
    return group.one.energy_j / group.one.work.num_prefill_tokens


def _decode_j(fewer: _Measured, more: _Measured) -> float:
    """Return joules per decode token, of those that a request has more in one trial than in the other."""
    return (more.energy_per_request_j - fewer.energy_per_request_j) / _num_more_tokens(fewer, more)


def _num_more_tokens(fewer: _Measured, more: _Measured) -> float:
    return more.output_tokens_per_request - fewer.output_tokens_per_request


# clocks --------------------------------------------------------------------------------------------------------------


def _prefill_clocks_mhz(group: Sequence[_Measured]) -> list[float]:
    """Return the SM clock at which prefill ran in each trial; empty where that is unknown for one of them."""
    of_prefill = [measured.prefill_clock_mhz for measured in group]
    clocks_mhz = [measured.clock_mhz for measured in group] if None in of_prefill else of_prefill
    known = [clock_mhz for clock_mhz in clocks_mhz if clock_mhz is not None]
    return known if len(known) == len(group) else []


def _clock_gap(group: Sequence[_Measured]) -> float:
    """Return how much faster, as a fraction, prefill ran in one trial than in another; 0 where that is unknown.

    Under a power cap the clock follows the load, and prefill alone draws more than prefill between stretches of
    decoding. A difference in the clock of decoding needs no such care. It shows in the two halves of an answer, and the
    interval reaches over both.
    """
    clocks_mhz = _prefill_clocks_mhz(group)
    return max(clocks_mhz) / min(clocks_mhz) - 1 if clocks_mhz else 0.0


def _explain_clocks(group: _Group) -> str | None:
    """Return why no interval holds, where the clocks lie too far apart."""
    measured = (group.whole, group.one, group.half)
    if _clock_gap(measured) <= MAX_CLOCK_GAP:
        return None
    whole_mhz, one_mhz, half_mhz = _prefill_clocks_mhz(measured)
    there = f"at {one_mhz:.0f} in one_token, at {half_mhz:.0f} in half_length"
    return f"no interval: prefill ran at {whole_mhz:.0f} MHz in this trial, {there}: different operating points"


# intervals -----------------------------------------------------------------------------------------------------------


def _add_intervals(phases: dict[_Group, Phases]) -> Iterator[tuple[str, Phases]]:
    """Yield each repeat's phases with the interval of the operating point's mean.

    The first half of an answer is decoded after less context than the second half, and more of it beside the prompts of
    other requests. So the interval of decoding reaches over both halves.
    """
    groups = list(phases)
    if not groups:
        return
    if len(groups) < 2 and not _are_sensors_known(groups):
        reason = "an interval needs two sound repeats, or a sensor of known uncertainty"
        yield groups[0].trial_id, replace(phases[groups[0]], phase_reason=reason)
        return
    prefill_j = [_prefill_j(group) for group in groups]
    of_halves = [sorted((_decode_j(group.one, group.half), _decode_j(group.half, group.whole))) for group in groups]
    unseen_prefill_j, unseen_decode_j = _find_unseen(groups)
    prefill_low_j, prefill_high_j = reach_over(prefill_j, prefill_j, unseen_prefill_j)
    decode_low_j, decode_high_j = reach_over(
        [least for least, _ in of_halves], [most for _, most in of_halves], unseen_decode_j
    )
    for group in groups:
        yield (
            group.trial_id,
            replace(
                phases[group],
                phase_interval="repeats" if len(groups) > 1 else "sensor",
                joules_per_prefill_token_low=prefill_low_j,
                joules_per_prefill_token_high=prefill_high_j,
                joules_per_decode_token_low=decode_low_j,
                joules_per_decode_token_high=decode_high_j,
            ),
        )


def _find_unseen(groups: Sequence[_Group]) -> tuple[float, float]:
    """Return what repeats do not show, in joules per prefill token and per decode token: the largest of the repeats.

    One part is the sensor's. The other is that prefill cost more or less in the one-token trial than in the others, by
    what their clocks allow (`CLOCK_ELASTICITY`). Decoding, which is the rest, then cost less or more.
    """
    know = _are_sensors_known(groups)
    prefill_j, decode_j = [], []
    for group in groups:
        whole, one = group.whole, group.one
        by_clock = CLOCK_ELASTICITY * _clock_gap((whole, one))
        by_sensor_j = (one.uncertainty_j or 0.0) if know else 0.0
        prefill_j.append(hypot(by_sensor_j, by_clock * one.energy_j) / one.work.num_prefill_tokens)
        by_clock = CLOCK_ELASTICITY * _clock_gap((whole, one, group.half))
        by_sensors_j = [measured.uncertainty_per_request_j for measured in (whole, one)] if know else []
        decode_j.append(hypot(*by_sensors_j, by_clock * one.energy_per_request_j) / _num_more_tokens(one, whole))
    return max(prefill_j), max(decode_j)


def _are_sensors_known(groups: Sequence[_Group]) -> bool:
    return all(measured.uncertainty_j is not None for group in groups for measured in (group.whole, group.one))


def _group(rows: Iterable[Row], names: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())
