"""Prefill and decode by trials of three output lengths: rows of `tables.TRIALS` enter and leave, completed.

A trial with `phases = "output_lengths"` has two paired trials in its block at the same point and repeat, with the same
prompts. One output token is prefill alone; what a request of full length takes beyond it is decoding alone. Half of the
outputs lies between the two and says whether the two add up.
"""

from collections.abc import Iterable, Sequence
from math import hypot
from typing import Any, get_args

import polars as pl

from runner.analysis.window.phases import num_prefill_tokens, reach_over, share_phases
from runner.results.tables import TRIALS
from runner.spec.request import PhaseRole

Row = dict[str, Any]

MAX_CLOCK_GAP = 0.10
"""Beyond it trials of one point ran at different operating points, and their joules are not compared."""
CLOCK_ELASTICITY = 1.2
"""By how many percent a token's energy changes at most for 1 % of the SM clock, upwards or downwards.

At a power cap the time alone changes: 1. Elsewhere the GPU model of an H200 says −0.4 to +1.1 over all its clocks.
"""
_POINT = ("block_id", "sm_clock_mhz_requested", "mem_clock_mhz_requested", "power_limit_w_requested")
_COLUMNS = (
    "phase_method",
    "phase_reason",
    "phase_interval",
    "prefill_energy_j",
    "decode_energy_j",
    "phase_residual_fraction",
    *(f"joules_per_{name}_token{bound}" for name in ("prefill", "decode") for bound in ("", "_low", "_high")),
)


def complete_phases(trials: pl.DataFrame) -> pl.DataFrame:
    """Fill the phase columns of the trials that have paired trials; of every other trial they stay as they are.

    Each trial has the joules a token of its own repeat; the interval is that of the point's mean over its sound
    repeats, paired, with what the sensor cannot see (`energy_uncertainty_j`), which repeating does not show.
    """
    blocks = trials.filter(pl.col("phase_role").is_not_null())["block_id"].unique()
    rows = trials.filter(pl.col("block_id").is_in(blocks.implode())).to_dicts()
    changes: list[Row] = []
    for point in _group(rows, _POINT):
        changes += _complete_point(point)
    if not changes:
        return trials
    schema = {name: TRIALS[name] for name in ("trial_id", *_COLUMNS)}
    return trials.update(pl.DataFrame(changes, schema=schema), on="trial_id", how="left", include_nulls=True)


def _complete_point(rows: Sequence[Row]) -> list[Row]:
    """Changes to the rows of one operating point of one block: its trials, their paired trials, perhaps sentinels."""
    wholes = [row for row in rows if row["phase_role"] is None and row["status"] == "ok"]
    done: list[tuple[Row, Row, Row, Row]] = []
    changes: list[Row] = []
    for whole in wholes:
        change: Row = dict.fromkeys(_COLUMNS) | {"trial_id": whole["trial_id"]}
        changes.append(change)
        if whole["is_sentinel"]:
            change["phase_reason"] = "a sentinel has no paired trials"
            continue
        group = [row for row in rows if row["repeat"] == whole["repeat"] and not row["is_sentinel"]]
        paired_trials = {role: _find_sound(group, role) for role in get_args(PhaseRole)}
        if reason := _explain(whole, paired_trials):
            change["phase_reason"] = reason
            continue
        one, half = paired_trials["one_token"], paired_trials["half_length"]
        assert one is not None
        assert half is not None
        prefill_j, decode_j = one["energy_j"] / num_prefill_tokens(one), _decode_j(one, whole)
        change |= share_phases(whole, prefill_j, decode_j) | {
            "phase_method": "output_lengths",
            "joules_per_prefill_token": prefill_j,
            "joules_per_decode_token": decode_j,
            # The whole is what the two were taken from; the half is not.
            "phase_residual_fraction": share_phases(half, prefill_j, decode_j)["phase_residual_fraction"],
        }
        if reason := _explain_clocks(whole, one, half):
            change["phase_reason"] = reason
        else:
            done.append((change, whole, one, half))
    _add_intervals(done)
    return changes


def _find_sound(rows: Iterable[Row], role: PhaseRole) -> Row | None:
    """The paired trial without a verdict; of two attempts the later one."""
    sound = [row for row in rows if row["phase_role"] == role and _is_sound(row)]
    return max(sound, key=lambda row: row["attempt"] or 1, default=None)


def _is_sound(row: Row) -> bool:
    return row["status"] == "ok" and not row["verdicts"] and row["energy_j"] is not None


def _explain(whole: Row, paired_trials: dict[PhaseRole, Row | None]) -> str | None:
    """Why this trial has no phases; None if it has."""
    if not _is_sound(whole):
        return f"the trial itself is not sound: {', '.join(whole['verdicts']) or 'its energy is unknown'}"
    missing = [role for role, paired in paired_trials.items() if paired is None]
    if missing:
        return f"there is no sound paired trial trial {' and '.join(missing)} at this point and repeat"
    return None


def _prefill_clocks_mhz(group: Sequence[Row]) -> list[float]:
    """Where prefill ran in each trial; empty where that is unknown of one."""
    column = "prefill_sm_clock_mhz"
    if any(row[column] is None for row in group):
        column = "sm_clock_mhz"  # the engine does not tell its steps, or no reading fell into the phase
    clocks_mhz = [row[column] for row in group]
    return [] if None in clocks_mhz else clocks_mhz


def _clock_gap(group: Sequence[Row]) -> float:
    """How much faster, as a fraction, the clock of prefill was in one trial than in another: 0 where it is unknown.

    Nothing was asked of it: under a power cap it follows the load, and prefill alone heats a GPU more than prefill
    between stretches of decoding. A clock of decoding that differs needs no such care: it is in what the two halves of
    an answer say, over which the interval reaches.
    """
    clocks_mhz = _prefill_clocks_mhz(group)
    return max(clocks_mhz) / min(clocks_mhz) - 1 if clocks_mhz else 0.0


def _explain_clocks(whole: Row, one: Row, half: Row) -> str | None:
    """Why no interval holds."""
    if _clock_gap((whole, one, half)) <= MAX_CLOCK_GAP:
        return None
    whole_mhz, one_mhz, half_mhz = _prefill_clocks_mhz((whole, one, half))
    there = f"at {one_mhz:.0f} in one_token, at {half_mhz:.0f} in half_length"
    return f"no interval: prefill ran at {whole_mhz:.0f} MHz in this trial, {there}: different operating points"


def _decode_j(fewer: Row, more: Row) -> float:
    """Joules a decode token, of those that the requests of one trial have more than the requests of the other."""
    return (_per_request(more, "energy_j") - _per_request(fewer, "energy_j")) / _num_more_tokens(fewer, more)


def _num_more_tokens(fewer: Row, more: Row) -> float:
    return _per_request(more, "num_output_tokens") - _per_request(fewer, "num_output_tokens")


def _per_request(row: Row, column: str) -> float:
    return float(row[column] / row["num_requests"])


def _add_intervals(done: Sequence[tuple[Row, Row, Row, Row]]) -> None:
    """Put the interval of a point's mean into each of its repeats.

    The first half of an answer is decoded after less context, and more of it beside other requests' prompts, than the
    second half: the interval of decoding reaches over both.
    """
    if not done:
        return
    changes, wholes, ones, halves = zip(*done, strict=True)
    groups = list(zip(wholes, ones, halves, strict=True))
    if len(done) < 2 and not _are_sensors_known(groups):
        changes[0]["phase_reason"] = "an interval needs two sound repeats, or a sensor of known uncertainty"
        return
    prefill_j = [change["joules_per_prefill_token"] for change in changes]
    of_halves = [sorted((_decode_j(one, half), _decode_j(half, whole))) for whole, one, half in groups]
    unseen_prefill_j, unseen_decode_j = _find_unseen(groups)
    bounds = {
        "prefill": reach_over(prefill_j, prefill_j, unseen_prefill_j),
        "decode": reach_over([least for least, _ in of_halves], [most for _, most in of_halves], unseen_decode_j),
    }
    for change in changes:
        change["phase_interval"] = "repeats" if len(done) > 1 else "sensor"
        for name, (low, high) in bounds.items():
            change.update({f"joules_per_{name}_token_low": low, f"joules_per_{name}_token_high": high})


def _find_unseen(groups: Sequence[tuple[Row, Row, Row]]) -> tuple[float, float]:
    """What repeating does not show, in joules a prefill token and joules a decode token: the largest of the repeats.

    The sensor's part; and prefill in the one-token trial cost more or less than in the others by what their clocks
    allow (`CLOCK_ELASTICITY`), which decoding, the rest, then has less or more.
    """
    know = _are_sensors_known(groups)
    prefill_j, decode_j = [], []
    for whole, one, half in groups:
        num_more = _num_more_tokens(one, whole)
        by_clock = CLOCK_ELASTICITY * _clock_gap((whole, one))
        by_sensor_j = one["energy_uncertainty_j"] if know else 0.0
        prefill_j.append(hypot(by_sensor_j, by_clock * one["energy_j"]) / num_prefill_tokens(one))
        by_clock = CLOCK_ELASTICITY * _clock_gap((whole, one, half))
        by_sensors_j = [_per_request(row, "energy_uncertainty_j") for row in (whole, one)] if know else []
        decode_j.append(hypot(*by_sensors_j, by_clock * _per_request(one, "energy_j")) / num_more)
    return max(prefill_j), max(decode_j)


def _are_sensors_known(groups: Sequence[tuple[Row, Row, Row]]) -> bool:
    return all(row["energy_uncertainty_j"] is not None for whole, one, _ in groups for row in (whole, one))


def _group(rows: Iterable[Row], names: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())
