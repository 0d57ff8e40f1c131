"""Prefill and decode by trials of three output lengths: rows of `tables.TRIALS` enter and leave, completed.

A trial with `phases = "output_lengths"` has two companions in its block at the same point and repeat: the same prompts
with one output token, which is prefill alone, and with half of the outputs, whose difference to the whole is decoding
alone.
"""

from collections.abc import Iterable, Sequence
from math import hypot
from typing import Any, get_args

import polars as pl

from runner.analysis.phases import mean_interval, num_prefill_tokens, share_phases
from runner.results.tables import TRIALS
from runner.spec.request import PhaseRole

Row = dict[str, Any]

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
    """Fill the phase columns of the trials that have companions; of every other trial they stay as they are.

    Each trial has the joules a token of its own repeat. The interval is that of the point's mean over its sound
    repeats, paired; of one repeat alone, what the sensor cannot see (`energy_uncertainty_j`), propagated.
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
    """Changes to the rows of one operating point of one block: its trials, their companions, perhaps sentinels."""
    wholes = [row for row in rows if row["phase_role"] is None and row["status"] == "ok"]
    done: list[tuple[Row, Row, Row, Row]] = []
    changes: list[Row] = []
    for whole in wholes:
        change: Row = dict.fromkeys(_COLUMNS) | {"trial_id": whole["trial_id"]}
        changes.append(change)
        if whole["is_sentinel"]:
            change["phase_reason"] = "a sentinel has no companions"
            continue
        group = [row for row in rows if row["repeat"] == whole["repeat"] and not row["is_sentinel"]]
        companions = {role: _find_sound(group, role) for role in get_args(PhaseRole)}
        if reason := _explain(whole, companions):
            change["phase_reason"] = reason
            continue
        one, half = companions["one_token"], companions["half_length"]
        assert one is not None
        assert half is not None
        change["phase_method"] = "output_lengths"
        change["joules_per_prefill_token"] = one["energy_j"] / num_prefill_tokens(one)
        change["joules_per_decode_token"] = _decode_j(whole, half)
        change |= share_phases(whole, change["joules_per_prefill_token"], change["joules_per_decode_token"])
        done.append((change, whole, one, half))
    _add_intervals(done)
    return changes


def _find_sound(rows: Iterable[Row], role: PhaseRole) -> Row | None:
    """The companion without a verdict; of two attempts the later one."""
    sound = [row for row in rows if row["phase_role"] == role and _is_sound(row)]
    return max(sound, key=lambda row: row["attempt"] or 1, default=None)


def _is_sound(row: Row) -> bool:
    return row["status"] == "ok" and not row["verdicts"] and row["energy_j"] is not None


def _explain(whole: Row, companions: dict[PhaseRole, Row | None]) -> str | None:
    """Why this trial has no phases; None if it has."""
    if not _is_sound(whole):
        return f"the trial itself is not sound: {', '.join(whole['verdicts']) or 'its energy is unknown'}"
    missing = [role for role, companion in companions.items() if companion is None]
    if missing:
        return f"there is no sound companion trial {' and '.join(missing)} at this point and repeat"
    return None


def _decode_j(whole: Row, half: Row) -> float:
    more_j = whole["energy_j"] / whole["num_requests"] - half["energy_j"] / half["num_requests"]
    return float(more_j / _num_more_tokens(whole, half))


def _num_more_tokens(whole: Row, half: Row) -> float:
    """Output tokens that a request of the whole length has more."""
    num_tokens = whole["num_output_tokens"] / whole["num_requests"] - half["num_output_tokens"] / half["num_requests"]
    return float(num_tokens)


def _add_intervals(done: Sequence[tuple[Row, Row, Row, Row]]) -> None:
    if len(done) > 1:
        for name in ("prefill", "decode"):
            _, low, high = mean_interval([change[f"joules_per_{name}_token"] for change, *_ in done])
            for change, *_ in done:
                change.update(_bounds(name, low, high), phase_interval="repeats")
        return
    for change, whole, one, half in done:
        if any(row["energy_uncertainty_j"] is None for row in (whole, one, half)):
            change["phase_reason"] = "an interval needs two sound repeats, or a sensor of known uncertainty"
            continue
        errors_j = (row["energy_uncertainty_j"] / row["num_requests"] for row in (whole, half))
        half_widths = {
            "prefill": one["energy_uncertainty_j"] / num_prefill_tokens(one),
            "decode": hypot(*errors_j) / _num_more_tokens(whole, half),
        }
        for name, half_width in half_widths.items():
            mean = change[f"joules_per_{name}_token"]
            change.update(_bounds(name, mean - half_width, mean + half_width), phase_interval="sensor")


def _bounds(name: str, low: float | None, high: float | None) -> Row:
    return {f"joules_per_{name}_token_low": low, f"joules_per_{name}_token_high": high}


def _group(rows: Iterable[Row], names: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())
