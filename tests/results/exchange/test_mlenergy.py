import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from runner.results.exchange.exported_trial import ExportedTrial, read_exported_trials
from runner.results.exchange.mlenergy import make_files, make_results
from tests.results.exchange.runs import START_NS, sweep, write_run
from tests.results.exchange.samples import kinds, sample


@pytest.fixture
def trial(tmp_path: Path) -> ExportedTrial:
    return read_exported_trials(write_run(tmp_path))[0][0]


def test_results_have_the_keys_the_types_and_the_numbers_of_the_sample(trial: ExportedTrial) -> None:
    theirs, ours = sample("mlenergy"), json.loads(json.dumps(make_results(trial), allow_nan=False))
    assert ours.pop("joulesweep")["trial_id"] == trial.row["trial_id"]
    assert kinds(ours) == kinds(theirs)
    lists = {"results", "timeline", "endpoint_type"}
    for key in set(theirs) - lists:
        assert ours[key] == (pytest.approx(theirs[key]) if isinstance(theirs[key], float) else theirs[key]), key
    assert ours["results"][0] == {
        key: pytest.approx(value) if isinstance(value, float) else value for key, value in theirs["results"][0].items()
    }
    edges = [key for key in theirs["timeline"] if key.endswith("_time")]
    assert {key: ours["timeline"][key] for key in edges} == {key: theirs["timeline"][key] for key in edges}


def test_the_power_trace_covers_the_window_and_nothing_else(trial: ExportedTrial) -> None:
    (points,) = make_results(trial)["timeline"]["power"]["device_instant"].values()
    assert (points[0], points[-1], len(points)) == ([START_NS * 1e-9, 200.0], [START_NS * 1e-9 + 10, 200.0], 21)
    average = replace(trial, row={**trial.row, "power_source": "average"})
    assert list(make_results(average)["timeline"]["power"]) == ["device_average"]


def test_a_request_that_failed_is_no_success_and_has_no_times(trial: ExportedTrial) -> None:
    failed = make_results(trial)["results"][-1]
    assert (failed["success"], failed["latency"], failed["itl"], failed["error"]) == (False, None, [], "timed out")


def test_one_chunk_of_tokens_holds_the_time_after_the_first(trial: ExportedTrial) -> None:
    request = make_results(trial)["results"][0]
    assert len(request["itl"]) == request["output_len"] - 1
    assert sum(request["itl"]) == request["latency"] - request["ttft"]


def test_the_tree_is_the_one_that_their_reader_walks(tmp_path: Path) -> None:
    files, notes = make_files(read_exported_trials(write_run(tmp_path))[0])
    results = sorted(path for path in files if path.endswith("results.json"))
    assert len(results) == 4
    for path in results:
        domain, gpu, snapshot, run, _, task, folder, organisation, model, sku, config, _ = path.split("/")
        assert (domain, gpu, snapshot, run, folder) == ("llm", "h200", "current", "run", "results")
        assert (task, organisation, model, sku) == ("synthetic-100x11", "org", "llama-3.2-1b", "H200")
        parts = config.split("+")
        pairs = dict(zip(parts[::2], parts[1::2], strict=True))
        assert (pairs["num_gpus"], pairs["max_num_seqs"]) == ("1", "2")
    assert sum("+sm_clock_mhz+1200+" in path for path in results) == 1
    folder = "configs/vllm/synthetic-100x11/org/llama-3.2-1b"
    assert files[f"{folder}/model_info.json"]["total_parameters_billion"] == pytest.approx(1.24, rel=0.01)
    assert files[f"{folder}/model_info.json"]["weight_precision"] == "bfloat16"
    assert files[f"{folder}/H200/monolithic.config.yaml"] == {
        "tensor-parallel-size": 1, "dtype": "bfloat16", "max-model-len": 2048,
    }  # fmt: skip
    assert not any("left out: ML.ENERGY" in note for note in notes)


def test_a_trial_without_a_steady_part_or_with_a_verdict_is_left_out(tmp_path: Path) -> None:
    for changes in ({"steady_energy_j": None}, {"verdicts": ["trace_gap"]}, {"steady_num_output_tokens": 0}):
        files, notes = make_files(read_exported_trials(write_run(tmp_path / next(iter(changes)), **changes))[0])
        assert sum(path.endswith("results.json") for path in files) == 1
        assert notes[0].startswith("3 trials are left out: ML.ENERGY needs a steady part")


def test_an_edge_that_the_row_contradicts_is_null(trial: ExportedTrial) -> None:
    other = replace(trial, row={**trial.row, "steady_duration_s": 8.0})
    assert make_results(other)["timeline"]["steady_state_start_time"] is None


def test_an_unknown_model_has_no_model_info_and_a_note(tmp_path: Path) -> None:
    store = write_run(tmp_path, document=sweep(model=[{"id": "somewhere/else/model"}]))
    files, notes = make_files(read_exported_trials(store)[0])
    assert not any(path.endswith("model_info.json") for path in files)
    assert any("/results/else/model/" in path for path in files)
    assert any("the number of parameters of somewhere/else/model is not known" in note for note in notes)


def test_a_gpu_without_a_trace_has_an_empty_one(trial: ExportedTrial) -> None:
    bare = replace(trial, power=trial.power.filter(pl.lit(value=False)))
    assert make_results(bare)["timeline"]["power"] == {"device_instant": {"0": []}}
