import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.results.exchange.exported_trial import ExportedTrial, read_exported_trials
from runner.results.exchange.inferencex import make_files, make_row
from tests.results.exchange.runs import requests, write_run
from tests.results.exchange.samples import kinds, sample

MEASURED = {
    "avg_power_w", "avg_total_gpu_power_w", "total_gpu_energy_j", "joules_per_successful_query",
    "joules_per_input_token", "joules_per_output_token", "joules_per_total_token",
}  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path) -> ExportedTrial:
    return read_exported_trials(write_run(tmp_path))[0][0]


def changed(trial: ExportedTrial, **columns: Any) -> ExportedTrial:
    return replace(trial, row={**trial.row, **columns})


def test_a_row_has_the_keys_the_types_and_the_numbers_of_the_sample(trial: ExportedTrial) -> None:
    theirs, ours = sample("inferencex"), json.loads(json.dumps(make_row(trial), allow_nan=False))
    assert kinds(ours) == kinds(theirs)
    own = {"recipe_fingerprint", "power_audit"}
    assert {key: value for key, value in ours.items() if key not in own} == {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in theirs.items()
        if key not in own
    }
    audit, expected = ours["power_audit"], theirs["power_audit"]
    assert audit.pop("source") == f"power/{trial.row['trial_id']}.parquet"
    assert audit == {key: value for key, value in expected.items() if key != "source"}


def test_power_of_a_trial_with_a_verdict_is_withheld_with_its_reasons(trial: ExportedTrial) -> None:
    row = make_row(changed(trial, verdicts=["clock_not_held", "trace_gap"]))
    assert (row["power_valid"], row["power_invalid_reasons"]) == (0, ["clock_not_held", "trace_gap"])
    assert not MEASURED & set(row)
    unknown = make_row(changed(trial, energy_j=None))
    assert (unknown["power_valid"], unknown["power_invalid_reasons"]) == (0, ["energy_unknown"])


def test_clocks_are_told_apart_by_the_fingerprint(tmp_path: Path) -> None:
    files, _ = make_files(read_exported_trials(write_run(tmp_path))[0])
    assert len(files) == 4
    assert all(path.startswith("bmk_joulesweep/agg_") for path in files)
    prints = {row["recipe_fingerprint"] for row in files.values()}
    assert len(prints) == 2
    assert sum(text.endswith("-sm_clock_mhz=1200") for text in prints) == 1


def test_numbers_of_several_gpus_are_per_gpu(trial: ExportedTrial) -> None:
    row = make_row(changed(trial, gpu_uuids=["GPU-a", "GPU-b"]))
    assert (row["num_gpus"], row["tput_per_gpu"], row["avg_power_w"], row["avg_total_gpu_power_w"]) == (
        2,
        22.2,
        100,
        200,
    )
    assert row["power_audit"]["expected_gpu_count"] == 2
    assert row["power_audit"]["observed_gpu_count"] == 1


def test_a_simulated_gpu_has_a_name_that_the_reader_refuses(trial: ExportedTrial) -> None:
    simulated = changed(trial, simulated=True, gpu_name="Simulated NVIDIA H200")
    files, notes = make_files([simulated])
    (row,) = files.values()
    assert row["hw"] == "simulated-h200"
    assert row["precision"] is None
    assert any("these are not measurements" in note for note in notes)


def test_what_the_format_demands_and_is_unknown_is_noted(trial: ExportedTrial) -> None:
    files, notes = make_files([changed(trial, concurrency=None)])
    assert files == {}
    assert notes[0].startswith("1 trial is left out: InferenceX needs conc")
    varied = replace(
        trial, times=replace(trial.times, num_prompt_tokens=[90, 110, 100, 100, 100], num_output_tokens=[11] * 5)
    )
    assert any("mean lengths" in note for note in make_files([varied])[1])
    assert not any("mean lengths" in note for note in make_files([equal(trial)])[1])


def equal(trial: ExportedTrial) -> ExportedTrial:
    """The same trial without the request that failed, so that all lengths are equal."""
    from runner.results.exchange.request_times import read_request_times

    kept = requests(trial.row["trial_id"]).filter(pl.col("error").is_null())
    return replace(trial, times=read_request_times(kept, trial.row["start_ns"]))
